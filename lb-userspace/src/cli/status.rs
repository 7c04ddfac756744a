//! `portico status`.

mod sockets;

use self::sockets::of_sockets;
use super::output::{Format, indent, print, table};
use super::serving;
use super::words::{count, or_dash, time};
use crate::api::facts::{Plane, Source};
use crate::api::status::{PeerRow, Status};
use crate::api::{Client, Problem};
use crate::names::report::{NamesReport, Upstream, UpstreamState};
use crate::plane::{FlowReport, InterfaceReport, PlaneReport, Portico0Report, SocketReport, XdpAttachment};

pub async fn status(client: &Client, format: Format) -> Result<(), Problem> {
    let status: Status = client.get("/v1/status").await?;
    print(format, &status, |status| text(status, format))
}

fn text(status: &Status, format: Format) -> String {
    let mut text = String::new();
    for problem in &status.problems {
        text += &format!("failing: {problem}\n");
    }
    if !status.problems.is_empty() {
        text += "\n";
    }
    text += &format!(
        "{}: portico {}, generation {}, {} of {} backends active in {} on {}\n",
        status.node,
        status.version,
        status.generation,
        status.services.active,
        status.services.backends,
        count(status.services.services as u64, "service"),
        count(status.services.nodes as u64, "node"),
    );
    for plane in &status.planes {
        text += &format!("\nplane {}\n{}", plane.name, indent(&plane_text(plane, format)));
    }
    text += &serving::text(&status.unusual, format);
    text += "\nsources\n";
    text += &indent(&table(
        ["SOURCE", "PLACE", "LAST GOOD", "STATE"],
        status.sources.iter().map(source),
    ));
    if let Some(names) = &status.names {
        text += "\nnames\n";
        text += &indent(&names_text(names, format));
    }
    if !status.peers.is_empty() {
        text += "\npeers\n";
        text += &indent(&table(
            ["NODE", "LAST HEARD", "STATE", "PLANE"],
            status.peers.iter().map(peer),
        ));
    }
    text
}

fn flows(flows: &FlowReport) -> String {
    match flows.generation {
        Some(_) => format!(
            "{} on this node's tasks, {} closing",
            count(flows.established, "flow"),
            flows.closing
        ),
        None => "this node's flows are not counted yet".into(),
    }
}

fn plane_text(plane: &Plane, format: Format) -> String {
    let report = &plane.report;
    if report.generation == 0 && report.interfaces.is_empty() {
        return if plane.problem.is_some() {
            "does not run".into()
        } else {
            "has nothing to do yet".into()
        };
    }
    let mut text = format!(
        "generation {} applied in {:.1} ms; {}\n",
        report.generation,
        report.applied_in as f64 / 1000.0,
        flows(&report.flows),
    );
    match &report.proxy {
        Some(proxy) => text += &of_sockets(proxy, format),
        None => text += &of_packets(report, format),
    }
    text
}

/// Devices, and what became of packets.
fn of_packets(report: &PlaneReport, format: Format) -> String {
    let mut text = String::new();
    let interfaces = report.interfaces.iter();
    text += &table(
        ["INTERFACE", "MODE", "WHY"],
        interfaces
            .map(|i| [i.name.clone(), mode(i), i.why.clone()])
            .chain([[
                "portico0".into(),
                way_in(&report.portico0),
                own_way(&report.portico0),
            ]]),
    );
    text += &sockets(&report.sockets);
    if !report.unhooked.is_empty() {
        let tasks: Vec<String> = report.unhooked.iter().map(ToString::to_string).collect();
        text += &format!(
            "without connections until they answer: the tasks at {}\n",
            tasks.join(", ")
        );
    }
    let met = report
        .counters
        .iter()
        .filter(|counter| counter.packets > 0 || format == Format::Wide);
    let met: Vec<_> = met
        .map(|counter| {
            [
                counter.verdict.clone(),
                counter.packets.to_string(),
                counter.bytes.to_string(),
            ]
        })
        .collect();
    if !met.is_empty() {
        text += "\n";
        text += &table(["VERDICT", "PACKETS", "BYTES"], met);
    }
    text
}

fn names_text(names: &NamesReport, format: Format) -> String {
    let mut zones = vec![names.domain.as_str()];
    zones.extend(names.cluster_domain.as_deref());
    let mut text = format!("{} of generation {}\n", zones.join(", "), names.generation);
    let listening = names.listening.iter().map(|listening| {
        let state = match (&listening.error, listening.present) {
            (Some(error), _) => error,
            (None, true) => "answers",
            (None, false) => "waits until this node has the address",
        };
        [listening.address.to_string(), state.into()]
    });
    text += &table(["ADDRESS", "STATE"], listening);
    if !names.upstreams.is_empty() {
        text += "\n";
        text += &table(
            ["UPSTREAM", "FOR", "STATE", "USUALLY"],
            names.upstreams.iter().map(upstream),
        );
    }
    let met = names
        .counters
        .iter()
        .filter(|(_, value)| **value > 0 || format == Format::Wide);
    let met: Vec<_> = met
        .map(|(name, value)| [name.clone(), value.to_string()])
        .collect();
    if !met.is_empty() {
        text += "\n";
        text += &table(["QUERIES", "NUMBER"], met);
    }
    text
}

fn upstream(upstream: &Upstream) -> [String; 4] {
    let (state, usual) = match upstream.state {
        UpstreamState::Untried => ("not asked yet", None),
        UpstreamState::Answers => ("answers", Some(upstream.usual_us)),
        UpstreamState::Silent => ("silent", None),
        UpstreamState::Loops => ("leads back here", None),
    };
    [
        upstream.address.to_string(),
        upstream.domain.clone().unwrap_or_else(|| "all others".into()),
        state.into(),
        or_dash(usual.map(|usual| format!("{:.1} ms", usual as f64 / 1000.0))),
    ]
}

/// What processes here are served with beside packets.
fn sockets(report: &SocketReport) -> String {
    let mut text = match (&report.cgroup, report.wanted) {
        (Some(cgroup), _) => format!("\nprograms at sockets: attached to {cgroup}\n"),
        (None, true) => "\nprograms at sockets: not attached\n".into(),
        (None, false) => "\nprograms at sockets: switched off, cgroup.attach = false\n".into(),
    };
    if report.cgroup.is_some() && !report.steered.is_empty() {
        text += &format!(
            "what containers ask of {} is led to this agent's name server\n",
            report.steered.join(", ")
        );
    }
    if let Some(reason) = &report.lookup_refused {
        text += &format!("the proxy has no port that another program has: {reason}\n");
    }
    text
}

fn mode(interface: &InterfaceReport) -> String {
    let xdp = match interface.xdp {
        Some(XdpAttachment::Native) => "xdp native",
        Some(XdpAttachment::Generic) => "xdp generic",
        None => "",
    };
    match (xdp, interface.tc) {
        ("", true) => "tc".into(),
        ("", false) => "none".into(),
        (xdp, true) => format!("{xdp}, tc"),
        (xdp, false) => xdp.into(),
    }
}

/// How the node's own traffic is taken.
fn way_in(device: &Portico0Report) -> String {
    if device.up && device.attached {
        "tc"
    } else {
        "none"
    }
    .into()
}

fn own_way(device: &Portico0Report) -> String {
    if !device.there {
        return "not there: this node's own processes do not reach VIPs".into();
    }
    let mut words = match (device.wanted - device.routes.min(device.wanted), device.routes) {
        (0, routes) => format!("this node's own way to VIPs, {}", count(routes as u64, "route")),
        (missing, _) => format!(
            "this node's own way to VIPs, {missing} of {} missing",
            count(device.wanted as u64, "route")
        ),
    };
    for address in &device.addresses {
        words += &format!(", {address}");
    }
    words
}

fn source(source: &Source) -> [String; 4] {
    let age = source
        .age_ms
        .map_or_else(|| "never".into(), |age| format!("{} ago", time(age)));
    // Why is said above, once.
    let state = if source.error.is_some() { "failing" } else { "good" };
    [source.name.clone(), source.place.clone(), age, state.into()]
}

fn peer(PeerRow { peer, plane }: &PeerRow) -> [String; 4] {
    let state = match (peer.suspected, peer.away) {
        (true, _) => "silent",
        (false, true) => "away",
        (false, false) => "alive",
    };
    [
        peer.node.clone(),
        or_dash(peer.heard_ms.map(|heard| format!("{} ago", time(heard)))),
        state.into(),
        or_dash(plane.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{sample, status};
    use crate::names::report::Listening;

    #[test]
    fn what_fails_is_said_before_anything_else() {
        let mut facts = sample::facts();
        facts.sources[0].error = Some("services.yaml:3: unknown key `prots`".into());
        let text = text(&status::status(&facts), Format::Table);
        assert!(
            text.starts_with("failing: source file was refused: services.yaml:3: unknown key"),
            "{text}"
        );
        assert!(
            text.contains("\n  traffic: flows as the last good picture says\n"),
            "{text}"
        );
    }

    #[test]
    fn the_name_server_is_shown_with_what_does_not_work_first() {
        let mut facts = sample::facts();
        let deaf = "cannot listen on 192.0.2.11:53/tcp: Address already in use (os error 98)";
        facts.names = Some(NamesReport {
            domain: "portico.internal".into(),
            generation: 5,
            listening: vec![
                Listening {
                    address: "169.254.20.10:53".parse().unwrap(),
                    error: None,
                    present: true,
                },
                Listening {
                    address: "192.0.2.11:53".parse().unwrap(),
                    error: Some(deaf.into()),
                    present: true,
                },
            ],
            upstreams: vec![Upstream {
                address: "192.0.2.53:53".parse().unwrap(),
                domain: None,
                state: UpstreamState::Answers,
                usual_us: 1500,
            }],
            counters: [("found".into(), 7), ("nodata".into(), 0)].into(),
            problems: vec![crate::plane::Problem {
                error: deaf.into(),
                traffic: "connections flow".into(),
                fix: "end what has the address".into(),
            }],
            ..NamesReport::default()
        });
        let text = text(&status::status(&facts), Format::Table);
        for line in [
            "failing: cannot listen on 192.0.2.11:53/tcp: Address already in use",
            "  portico.internal of generation 5\n",
            "  169.254.20.10:53  answers\n",
            "  192.0.2.53:53  all others  answers  1.5 ms\n",
            "  found    7\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("nodata"), "{text}");
    }

    #[test]
    fn peers_are_shown_with_what_serves_there() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::node(snapshot, "node2").by_proxy = true
        });
        let text = text(&status::status(&facts), Format::Table);
        for line in [
            "  node2  80 ms ago   alive  proxy\n",
            "  node3  80 ms ago   alive  ebpf\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn programs_at_sockets_are_shown_with_their_cgroup() {
        let mut report = SocketReport::default();
        assert!(sockets(&report).contains("switched off"));
        report.wanted = true;
        assert!(sockets(&report).contains("not attached"));
        report.cgroup = Some("/sys/fs/cgroup".into());
        assert!(!sockets(&report).contains("led"));
        report.steered = vec!["127.0.0.11".into(), "192.0.2.53".into()];
        let text = sockets(&report);
        assert!(text.contains("attached to /sys/fs/cgroup\n"), "{text}");
        assert!(text.contains("ask of 127.0.0.11, 192.0.2.53 is led"), "{text}");
    }

    #[test]
    fn an_interface_is_shown_with_its_mode_and_the_reason() {
        let mut facts = sample::facts();
        facts.planes[0].report.interfaces = vec![InterfaceReport {
            name: "eth0".into(),
            index: 2,
            xdp: None,
            tc: true,
            why: "veth: super-packets pass tc whole".into(),
        }];
        let text = text(&status::status(&facts), Format::Table);
        assert!(
            text.contains("eth0       tc    veth: super-packets pass tc whole\n"),
            "{text}"
        );
    }

    #[test]
    fn the_nodes_own_way_is_shown_with_what_is_missing_of_it() {
        let mut device = Portico0Report {
            there: true,
            up: true,
            attached: true,
            addresses: vec![std::net::Ipv4Addr::new(169, 254, 20, 10).into()],
            routes: 3,
            wanted: 3,
        };
        let words = "this node's own way to VIPs, 3 routes, 169.254.20.10";
        assert_eq!(
            (way_in(&device).as_str(), own_way(&device).as_str()),
            ("tc", words)
        );
        device.routes = 2;
        assert!(own_way(&device).contains("1 of 3 routes missing"));
        assert!(own_way(&Portico0Report::default()).starts_with("not there"));
    }
}
