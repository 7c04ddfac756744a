//! Published ports that something on this node uses or may be given.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::finding::Finding;
use crate::api::published::{Port, Published};
use crate::model::Protocol;

/// `own`: sockets of the running agent's proxy, by inode. `alone`: there are no packet programs here.
pub fn check(published: Option<&Published>, own: &BTreeSet<u64>, alone: bool) -> Vec<Finding> {
    let Some(published) = published else {
        return vec![Finding::warning(
            "ports",
            "not looked at: no services file can be read, and no agent says what else is published",
            "start the agent, and check again",
        )];
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let net = |name: &str| read(&format!("/proc/net/{name}"));
    let tcp = listening(&(net("tcp") + &net("tcp6")), LISTEN, own);
    let udp = listening(&(net("udp") + &net("udp6")), UNCONNECTED, own);
    let range = read("/proc/sys/net/ipv4/ip_local_port_range");
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let all = ports(published, |_| true);
    let mut findings = vec![
        clashes(&ports(published, |port| !port.expected), &tcp, &udp, alone),
        ephemeral(&all, &range, &reserved, alone),
    ];
    // What comes back to a masqueraded connection is taken for a client's by packet programs alone.
    findings.extend((!alone).then(|| of_tasks(&all)));
    findings
}

/// States of sockets in /proc/net.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// With the service that answers there.
type Ports = BTreeMap<(u16, Protocol), String>;

/// Those that answer on every address of this node.
fn ports(published: &Published, is_meant: impl Fn(&Port) -> bool) -> Ports {
    let services = published.services.iter();
    services
        .flat_map(|service| {
            let ports = service.ports.iter().filter(|port| is_meant(port));
            ports.map(|port| ((port.port, port.protocol), service.name.clone()))
        })
        .collect()
}

/// Ports of the sockets in `state` that are reachable from outside, but for the agent's `own`.
fn listening(table: &str, state: &str, own: &BTreeSet<u64>) -> Vec<u16> {
    let sockets = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        // 127.0.0.0/8 and ::1, as the kernel writes them: words in the machine's order.
        let loopback = address.len() == 8 && address.ends_with("7F") || address.ends_with("00000001000000");
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_meant = fields.nth(1)? == state && !loopback;
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        (is_meant && !own.contains(&inode)).then_some(port)
    });
    sockets.collect()
}

fn clashes(published: &Ports, tcp: &[u16], udp: &[u16], alone: bool) -> Finding {
    let taken = |(port, protocol): &(u16, Protocol)| match protocol {
        Protocol::Tcp => tcp.contains(port),
        Protocol::Udp => udp.contains(port),
    };
    let clashes: Vec<_> = published
        .iter()
        .filter(|(key, _)| taken(key))
        .map(|((port, protocol), service)| format!("{port}/{} ({service})", protocol.label()))
        .collect();
    if clashes.is_empty() {
        return Finding::ok(
            "ports",
            format!(
                "none of {} published ports has a listener on this node that is not expected",
                published.len()
            ),
        );
    }
    let who = match alone {
        true => "clients are answered by it, not by the service",
        false => "packets from outside go to the service, not to it",
    };
    Finding::warning(
        "ports",
        format!(
            "something else on this node listens on {}: {who}",
            clashes.join(", ")
        ),
        "stop it (ss -ltnup names it), or publish other ports",
    )
}

fn ephemeral(published: &Ports, range: &str, reserved: &str, alone: bool) -> Finding {
    let mut bounds = range
        .split_whitespace()
        .filter_map(|bound| bound.parse::<u16>().ok());
    let (Some(low), Some(high)) = (bounds.next(), bounds.next()) else {
        return Finding::ok(
            "own ports",
            "the range of the node's own connections cannot be read",
        );
    };
    let reserved: Vec<_> = reserved.trim().split(',').filter_map(span).collect();
    let mut open: Vec<_> = published.keys().map(|(port, _)| *port).collect();
    open.dedup();
    open.retain(|port| (low..=high).contains(port) && !reserved.iter().any(|span| span.contains(port)));
    if open.is_empty() {
        return Finding::ok(
            "own ports",
            format!("the node's own connections ({low}-{high}) take no published port"),
        );
    }
    let open: Vec<_> = open.iter().map(u16::to_string).collect();
    let open = open.join(",");
    Finding::warning(
        "own ports",
        format!("the node's own connections may be given the published ports {open}"),
        match alone {
            true => format!("reserve them: sysctl net.ipv4.ip_local_reserved_ports={open}"),
            false => "start the agent, which reserves them (net.ipv4.ip_local_reserved_ports)".into(),
        },
    )
}

/// What every new network namespace takes ports for its connections from, whatever the node's own range is
/// (Documentation/networking/ip-sysctl.rst, ip_local_port_range).
const NAMESPACES: RangeInclusive<u16> = 32768..=60999;

/// Masquerading keeps the port of a connection that a container makes wherever it is free, and asks nobody whether it is
/// reserved on the node: its answers would be taken for a client's packets.
fn of_tasks(published: &Ports) -> Finding {
    let mut open: Vec<_> = published.keys().map(|(port, _)| *port).collect();
    open.dedup();
    open.retain(|port| NAMESPACES.contains(port));
    let (low, high) = (NAMESPACES.start(), NAMESPACES.end());
    if open.is_empty() {
        return Finding::ok(
            "tasks' ports",
            format!("connections that containers make ({low}-{high}) take no published port"),
        );
    }
    let open: Vec<_> = open.iter().map(u16::to_string).collect();
    let open = open.join(",");
    Finding::warning(
        "tasks' ports",
        format!(
            "a masqueraded connection of a container may be given a published port ({open}); its answers would go to the \
             service"
        ),
        format!(
            "publish ports below {low} or above {high}, or start containers with --sysctl net.ipv4.ip_local_reserved_ports={open}"
        ),
    )
}

fn span(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some(low.parse().ok()?..=high.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::cli::check::finding::State;
    use crate::plane::proxy::Sockets;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0B0200C0:0016 076433C6:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:0CEB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5 1
   1: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 6 1
";

    fn web(port: u16) -> Ports {
        [((port, Protocol::Tcp), "web".to_owned())].into()
    }

    #[test]
    fn without_an_agent_or_a_file_nothing_is_said_to_be_well() {
        let findings = check(None, &BTreeSet::new(), false);
        assert_eq!((findings.len(), findings[0].state), (1, State::Warning));
    }

    #[test]
    fn only_listeners_that_outsiders_reach_count() {
        assert_eq!(listening(TCP, LISTEN, &BTreeSet::new()), [8080, 8081, 8082]);
    }

    #[test]
    fn the_agents_own_sockets_are_nobody_elses() {
        assert_eq!(listening(TCP, LISTEN, &[4, 6].into()), [8080]);
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let (port, file) = (socket.local_addr().unwrap().port(), OwnedFd::from(socket));
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        assert!(listening(&table, LISTEN, &BTreeSet::new()).contains(&port));
        let own = [Sockets::identity(&file).unwrap()].into();
        assert!(!listening(&table, LISTEN, &own).contains(&port));
    }

    #[test]
    fn a_listener_on_a_published_port_is_named_with_the_service() {
        let finding = clashes(&web(8080), &[8080], &[], false);
        assert_eq!(finding.state, State::Warning);
        assert!(finding.words.contains("8080/tcp (web)"));
        assert_eq!(clashes(&web(8080), &[], &[8080], false).state, State::Ok);
        // Where sockets alone serve there is one for each port.
        let finding = clashes(&web(8080), &[8080], &[], true);
        assert!(
            finding.words.ends_with("answered by it, not by the service"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_published_port_that_a_container_may_be_given_is_named_with_the_remedy() {
        assert_eq!(of_tasks(&web(8080)).state, State::Ok);
        let finding = of_tasks(&web(40000));
        assert_eq!(finding.state, State::Warning);
        assert!(finding.fix.unwrap().ends_with("ip_local_reserved_ports=40000"));
    }

    #[test]
    fn published_ports_in_the_ephemeral_range_shall_be_reserved() {
        let range = "32768\t60999\n";
        let found = |port, reserved| ephemeral(&web(port), range, reserved, false).state;
        assert_eq!(found(8080, "\n"), State::Ok);
        assert_eq!(found(40000, "\n"), State::Warning);
        assert_eq!(found(40000, "39000-40000,50000\n"), State::Ok);
    }
}
