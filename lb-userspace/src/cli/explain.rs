//! `portico explain`: the words around the numbers.

mod how;
mod seen;

use std::net::IpAddr;

use super::listing::escape;
use super::output::{Format, indent, print, table};
use super::words::{count, or_dash};
use crate::api::explain::{Answer, Explanation, NodePlane, Scaling, Table};
use crate::api::naming::NamingView;
use crate::api::serving::Carried;
use crate::api::{Client, Problem};

/// Addresses listed before the rest is only counted.
const LISTED: usize = 6;

pub async fn explain(client: &Client, service: &str, format: Format) -> Result<(), Problem> {
    let explanation: Explanation = client.get(&format!("/v1/explain/{}", escape(service))).await?;
    print(format, &explanation, text)
}

/// What carries connections of the service from here.
struct Carriers<'e> {
    packets: bool,
    proxy: bool,
    /// Of clients that the proxy leads to tasks of the other family, where packet programs have these.
    across: Option<&'e str>,
    /// Nodes without packet programs, this one not among them.
    bare: Vec<&'e str>,
    /// Those of them to whose tasks connections go that packet programs serve otherwise.
    beyond: Vec<&'e str>,
    /// Other nodes that have packet programs.
    others: Vec<&'e str>,
}

impl<'e> Carriers<'e> {
    fn of(explanation: &'e Explanation) -> Self {
        let carried = || {
            let answers = explanation.answers.iter();
            answers.flat_map(|answer| answer.carried.iter().map(move |carried| (answer, carried)))
        };
        let is_by = |carried: &Carried, plane: &str| carried.plane.as_deref() == Some(plane);
        let packets = carried().any(|(_, carried)| is_by(carried, "ebpf"));
        let proxied = || carried().filter(|(_, carried)| is_by(carried, "proxy"));
        let is_across =
            |(answer, carried): &(&Answer, &Carried)| packets && !answer.families.contains(&carried.family);
        let others = |plane: &str, which: fn(&NodePlane) -> bool| {
            let nodes = explanation.nodes.iter();
            let others = nodes.filter(|node| node.name != explanation.node && which(node));
            let others = others.filter(|node| node.plane.as_deref() == Some(plane));
            others.map(|node| node.name.as_str()).collect::<Vec<_>>()
        };
        let beyond = match packets {
            true => others("proxy", |node| node.backends > 0),
            false => Vec::new(),
        };
        Self {
            packets,
            proxy: !beyond.is_empty() || proxied().any(|one| !is_across(&one)),
            across: proxied()
                .find(is_across)
                .map(|(_, carried)| carried.family.as_str()),
            bare: others("proxy", |_| true),
            beyond,
            others: others("ebpf", |_| true),
        }
    }
}

fn text(explanation: &Explanation) -> String {
    let carriers = Carriers::of(explanation);
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
    text += &indent(&how::text(explanation, &carriers));
    for table in &explanation.tables {
        text += &format!(
            "\nthe tasks' shares, port {}, {}\n{}",
            table.target_port,
            table.family,
            indent(&shares(table))
        );
    }
    text += "\nthe client's address\n";
    text += &indent(&seen::text(explanation, &carriers));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Facts, explain, sample};
    use crate::config::Mode;
    use crate::model::{Algorithm, Plane, ProxyRules, ProxyVersion};

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

    /// What is said of `web`, where `change` has been made to what the sample is.
    fn said(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = sample::facts();
        change(&mut facts);
        text(&explain::explain(&facts, "web").unwrap())
    }

    fn asks_for(facts: &mut Facts, plane: Plane) {
        sample::change(facts, |snapshot| sample::service(snapshot).proxy.plane = plane);
    }

    fn prove(text: &str, has: &[&str], has_not: &[&str]) {
        for expected in has {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        for unexpected in has_not {
            assert!(!text.contains(unexpected), "{unexpected:?} is in\n{text}");
        }
    }

    const OF_PACKETS: [&str; 3] = [
        "change nodes, at any time",
        "own address and port, through every node",
        "In their place",
    ];
    const OF_PROXY: [&str; 2] = [
        "it cannot change nodes",
        "By the proxy a task sees an address of its own node",
    ];

    #[test]
    fn what_the_proxy_serves_is_not_told_as_if_packet_programs_did() {
        let usual = said(|_| {});
        prove(&usual, &OF_PACKETS, &OF_PROXY);
        let across = [
            "IPv6 clients' connections are the proxy's",
            "IPv6 clients are seen as an address of the task's own node",
        ];
        prove(&usual, &across, &[]);
        let on_the_node = said(|facts| facts.here.mode = Mode::Proxy);
        let for_the_service = said(|facts| asks_for(facts, Plane::Proxy));
        for text in [on_the_node, for_the_service] {
            prove(&text, &OF_PROXY, &OF_PACKETS);
            prove(&text, &[], &across);
        }
        let alone = said(|facts| asks_for(facts, Plane::Ebpf));
        prove(&alone, &OF_PACKETS, &OF_PROXY);
        assert!(
            alone.contains("Every task sees the client's own address"),
            "{alone}"
        );
    }

    #[test]
    fn what_a_service_asks_of_the_proxy_is_told_where_it_matters() {
        let text = said(|facts| {
            sample::change(facts, |snapshot| {
                sample::service(snapshot).proxy = ProxyRules {
                    algorithm: Algorithm::LeastConnections,
                    send: Some(ProxyVersion::V2),
                    accept: vec!["192.0.2.0/24".parse().unwrap()],
                    transparent: true,
                    ..ProxyRules::default()
                };
            });
        });
        let has = [
            "two highest tasks that has fewer connections for its weight",
            "By the proxy a task sees the client's own address (transparent)",
            "by the PROXY protocol, v2 (send)",
            "TCP connections from 192.0.2.0/24 have to begin with a PROXY header",
        ];
        prove(&text, &has, &OF_PACKETS);
    }

    #[test]
    fn other_nodes_with_another_plane_are_named() {
        let bare = |facts: &mut Facts| {
            sample::change(facts, |snapshot| sample::node(snapshot, "node2").by_proxy = true);
        };
        let with_tasks = said(bare);
        let has = [
            "Connections to tasks of node2 are the proxy's",
            "all clients who come in by node2: there are no packet programs",
        ];
        prove(&with_tasks, &has, &[]);
        let without_tasks = said(|facts| {
            bare(facts);
            sample::change(facts, |snapshot| {
                let backends = &mut sample::service(snapshot).backends;
                backends.retain(|backend| &*backend.node != "node2");
            });
        });
        prove(&without_tasks, &has[1..], &has[..1]);
        let from_there = said(|facts| facts.here.mode = Mode::Proxy);
        prove(&from_there, &["node2, node3 may serve by packet programs"], &has);
    }

    #[test]
    fn where_nobody_serves_that_is_said() {
        let text = said(|facts| {
            facts.here.mode = Mode::Proxy;
            asks_for(facts, Plane::Ebpf);
        });
        prove(&text, &["No client is served here."], &OF_PACKETS);
        prove(&text, &["IPv4 clients are not served here"], &OF_PROXY);
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
