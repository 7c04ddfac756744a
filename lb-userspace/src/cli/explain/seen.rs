//! Whose address the tasks see, by what serves the service here.

use std::net::IpAddr;

use super::{Carriers, LISTED};
use crate::api::explain::{Explanation, Seen};
use crate::api::rules::RulesView;
use crate::cli::listing::listed;

pub fn text(explanation: &Explanation, carriers: &Carriers) -> String {
    let mut text = String::new();
    if carriers.packets {
        text += match carriers.proxy || !carriers.bare.is_empty() {
            false => "Every task sees the client's own address and port, through every node.\n",
            true => {
                "By packet programs a task sees the client's own address and port, through every node that has them.\n"
            }
        };
        text += &masked(&explanation.seen);
    }
    if carriers.proxy {
        text += &by_proxy(&explanation.rules);
    } else if let Some(family) = carriers.across {
        text += &format!(
            "{family} clients are seen as an address of the task's own node: the proxy is between.\n"
        );
    }
    if !carriers.packets && !carriers.proxy {
        text += "No client is served here.\n";
    }
    if carriers.packets && !carriers.bare.is_empty() {
        text += &format!(
            "The proxy is between tasks and all clients who come in by {}: there are no packet programs.\n",
            carriers.bare.join(", ")
        );
    }
    if !carriers.packets && !carriers.others.is_empty() {
        text += &format!(
            "This is so for clients who come in here. {} may serve by packet programs: portico explain there says it.\n",
            carriers.others.join(", ")
        );
    }
    text
}

/// Where packet programs put something else in the client's place.
fn masked(seen: &Seen) -> String {
    let list = |addresses: &[IpAddr]| {
        let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        listed.join(" and ")
    };
    let masks: Vec<String> = seen
        .masks
        .iter()
        .take(LISTED)
        .map(|mask| format!("{} is {}", mask.node, list(&mask.addresses)))
        .collect();
    let mut text = "\
Not so where the task could not answer it: a container on another node (bridges have the same subnets everywhere),
a client inside the task's own subnet, and a task that reaches itself. These are seen as the task's own node.
"
    .to_owned();
    if !masks.is_empty() {
        text += &format!("In their place {}", masks.join(", "));
        if seen.masks.len() > LISTED {
            text += &format!(", and so on for {} more", seen.masks.len() - LISTED);
        }
        text += ".\n";
    }
    if !seen.flat.is_empty() {
        text += &format!(
            "Clients in flat networks ({}) are seen as they are, except a task by itself.\n",
            listed(&seen.flat)
        );
    }
    text
}

fn by_proxy(rules: &RulesView) -> String {
    let mut text = match rules.transparent {
        false => "\
By the proxy a task sees an address of its own node: on a bridge that of the bridge.
",
        true => {
            "\
By the proxy a task sees the client's own address (transparent), and its port where no other connection has that.
Not so a client in the task's own network, at a loopback address or of the other family: it is seen as an address of
the task's own node.
"
        }
    }
    .to_owned();
    if let Some(version) = &rules.send {
        text += &format!(
            "In front of a TCP connection's data the task is told the client's address by the PROXY protocol, {version} (send).\n"
        );
    }
    if !rules.accept.is_empty() {
        text += &format!(
            "TCP connections from {} have to begin with a PROXY header, and the client is whom it names (accept).\n",
            listed(&rules.accept)
        );
    }
    text
}
