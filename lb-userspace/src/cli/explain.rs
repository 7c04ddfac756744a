//! `portico explain`: the words around the numbers.

use std::net::IpAddr;

use super::listing::escape;
use super::output::{Format, indent, print, table};
use super::words::{count, or_dash};
use crate::api::explain::{Answer, Explanation, Scaling, Seen, Table};
use crate::api::naming::NamingView;
use crate::api::{Client, Problem};

/// Addresses listed before the rest is only counted.
const LISTED: usize = 6;

pub async fn explain(client: &Client, service: &str, format: Format) -> Result<(), Problem> {
    let explanation: Explanation = client.get(&format!("/v1/explain/{}", escape(service))).await?;
    print(format, &explanation, text)
}

fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    for warning in &explanation.warnings {
        text += &format!("warning: {warning}\n");
    }
    text += &format!(
        "{}, as of generation {}\n\n",
        explanation.service, explanation.generation
    );
    text += "what its name leads to\n";
    text += &indent(&name(explanation));
    text += "\nwhere it answers\n";
    for answer in &explanation.answers {
        text += &indent(&where_(answer));
    }
    text += "\nhow a connection gets its task\n";
    text += &indent(&how(explanation));
    for table in &explanation.tables {
        text += &format!(
            "\nthe tasks' shares, port {}, {}\n{}",
            table.target_port,
            table.family,
            indent(&shares(table))
        );
    }
    text += "\nthe client's address\n";
    text += &indent(&seen(&explanation.seen));
    text
}

fn name(explanation: &Explanation) -> String {
    let NamingView {
        names,
        networks,
        public,
        ttl,
        vips,
        exposed,
        ..
    } = &explanation.naming;
    let list = |addresses: &[IpAddr]| {
        let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        listed.join(", ")
    };
    let leads = if explanation.leads_to_vip {
        format!("{}, the service's own (VIP)", list(vips))
    } else {
        "every active task's address".to_owned()
    };
    let who = if *public {
        "everybody".to_owned()
    } else {
        format!("tasks of services on the networks {}", networks.join(", "))
    };
    let mut text = format!(
        "{}: {leads}\n  told to {who}, to be kept for {}\n",
        names.join(", "),
        count((*ttl).into(), "second")
    );
    if !exposed.is_empty() && !vips.is_empty() {
        text += &format!("  ports there are those of the tasks: {}\n", exposed.join(", "));
    }
    text
}

fn where_(answer: &Answer) -> String {
    let mut listed: Vec<_> = answer
        .addresses
        .iter()
        .take(LISTED)
        .map(ToString::to_string)
        .collect();
    if answer.addresses.len() > LISTED {
        listed.push(format!("{} more", answer.addresses.len() - LISTED));
    }
    let listed = listed.join(", ");
    let place = if answer.vip {
        format!("the address {listed}, at whichever node a packet for it arrives")
    } else {
        format!("every address of every node: {listed}, and what else they have")
    };
    let families = match &answer.families[..] {
        [] => "nobody: no backend has an address".to_owned(),
        families => format!("{} clients", families.join(" and ")),
    };
    let mut text = format!(
        "{}/{} on {place}\n  to port {} of the tasks, for {families}\n",
        answer.port, answer.protocol, answer.target_port
    );
    for carried in answer.carried.iter().filter(|carried| !carried.usual) {
        let by = match &carried.plane {
            Some(plane) => format!("served by {plane}"),
            None => "not served here".into(),
        };
        text += &format!("  {} clients are {by}: {}\n", carried.family, carried.reason);
    }
    text
}

fn how(explanation: &Explanation) -> String {
    let slots = explanation.tables.first().map_or(0, |table| table.slots);
    let hashed = match explanation.affinity.as_str() {
        "client-ip" => {
            "The client's address alone is hashed, so that one client always meets the same task, while it is there."
        }
        _ => "The client's address and both ports are hashed, so that each connection is placed by itself.",
    };
    let mut text = format!(
        "{hashed}\n\
         The hash picks one of {slots} slots, and the table says whose slot it is. Every node has the same table and\n\
         remembers no connection: a connection may arrive at any node, and change nodes, at any time.\n\
         The node that runs the task remembers its connections. They stay with it whatever the table says later; a\n\
         packet that comes to the wrong node is passed along the few nodes that can have it.\n\
         A task that drains or does not listen gets no new connection: its node passes it to the slot's runner-up.\n"
    );
    if !explanation.suspected.is_empty() {
        text += &format!(
            "Just now {} cannot be heard: new connections go to the runners-up on other nodes.\n",
            explanation.suspected.join(", ")
        );
    }
    text
}

fn shares(table: &Table) -> String {
    let rows = table.shares.iter().map(|share| {
        [
            share.task.clone(),
            share.node.clone(),
            share.state.clone(),
            share.weight.to_string(),
            share.slots.to_string(),
            format!("{:.1} %", share.percent),
            format!("{:.1} %", share.fair_percent),
            or_dash(share.live),
        ]
    });
    let mut text = self::table(
        [
            "TASK",
            "NODE",
            "STATE",
            "WEIGHT",
            "SLOTS",
            "SHARE",
            "FAIR",
            "LIVE FLOWS",
        ],
        rows,
    );
    if table.shares.iter().any(|share| share.live.is_none()) {
        text += "(live flows are counted by the node that runs the task; - is another node's, or not counted yet)\n";
    }
    if table.shares.iter().any(|share| share.slots > 0) {
        text += &format!(
            "Shares are within {:.1} % of what the weights ask for; with {} slots the bound is {:.1} %.\n",
            table.evenness.worst_percent, table.slots, table.evenness.bound_percent
        );
    }
    text.extend(
        table
            .up
            .as_ref()
            .map(|up| scaling(up, "comes", "all of them to it", table.slots)),
    );
    text.extend(
        table
            .down
            .as_ref()
            .map(|down| scaling(down, "goes", "all of them its own", table.slots)),
    );
    text
}

fn scaling(scaling: &Scaling, verb: &str, which: &str, slots: u32) -> String {
    let which = match scaling.others {
        0 => which.to_owned(),
        others => format!("{others} of them between other tasks, for no task is active now"),
    };
    format!(
        "Scaled to {}, {} {verb}: {} of {slots} slots ({:.1} %) get another task, {which}. Connections stay.\n",
        count(scaling.active as u64, "task"),
        scaling.task,
        scaling.moved,
        scaling.percent,
    )
}

fn seen(seen: &Seen) -> String {
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
Every task sees the client's own address and port, through every node.
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
        let flat: Vec<_> = seen.flat.iter().map(ToString::to_string).collect();
        text += &format!(
            "Clients in flat networks ({}) are seen as they are, except a task by itself.\n",
            flat.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{explain, sample};

    #[test]
    fn numbers_come_with_the_words_that_make_sense_of_them() {
        let text = text(&explain::explain(&sample::facts(), "web").unwrap());
        for expected in [
            "8080/tcp on every address of every node: 192.0.2.11, 192.0.2.12, 192.0.2.13",
            "web: every active task's address\n    told to everybody, to be kept for 5 seconds\n",
            "one of 4096 slots",
            "web.1  node1  active",
            "Scaled to 4 tasks, web.4 comes: ",
            "Scaled to 2 tasks, web.3 goes: ",
            "sees the client's own address",
            "In their place node1 is 192.0.2.11, node2 is 192.0.2.12",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_name_that_leads_to_a_vip_is_shown_with_the_ports_that_answer_there() {
        let mut explanation = explain::explain(&sample::facts(), "web").unwrap();
        explanation.leads_to_vip = true;
        explanation.naming.vips = vec![[10, 254, 0, 1].into()];
        explanation.naming.exposed = vec!["http=80/tcp".into()];
        explanation.naming.public = false;
        explanation.naming.networks = vec!["front".into()];
        let text = text(&explanation);
        for expected in [
            "web: 10.254.0.1, the service's own (VIP)\n    told to tasks of services on the networks front,",
            "ports there are those of the tasks: http=80/tcp\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn client_affinity_and_silent_nodes_are_named() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::node(snapshot, "node2").suspected = true;
        });
        let mut explanation = explain::explain(&facts, "web").unwrap();
        explanation.affinity = "client-ip".into();
        let text = text(&explanation);
        assert!(text.contains("The client's address alone is hashed"), "{text}");
        assert!(text.contains("Just now node2 cannot be heard"), "{text}");
    }
}
