//! What `portico status` says of the plane that serves by sockets.

use crate::cli::output::{Format, table};
use crate::cli::words::{count, first};
use crate::plane::proxy::relay::RelayReport;
use crate::plane::proxy::{ProxyReport, UdpReport};

/// Connections that the proxy carries.
pub fn of_sockets(proxy: &ProxyReport, format: Format) -> String {
    let mut text = format!(
        "{} at {}; {} accepted, {} of them tried at a further task\n",
        count(proxy.workers as u64, "thread"),
        count(proxy.listeners as u64, "frontend"),
        count(proxy.opened, "connection"),
        proxy.retries,
    );
    if !proxy.led.is_empty() {
        let led: Vec<&String> = proxy.led.iter().collect();
        text += &format!(
            "another program has the port of {}: clients are led past it\n",
            first(&led, format)
        );
    }
    if proxy.pauses > 0 {
        text += &format!("clients waited {} to be accepted\n", count(proxy.pauses, "time"));
    }
    if proxy.untold {
        text += "clients are not told when a task refuses their datagrams: the agent has no CAP_NET_RAW\n";
    }
    text += &udp(&proxy.udp, "");
    text += &nodes(proxy);
    let ended = proxy.ended.iter();
    let met: Vec<_> = ended
        .filter(|ended| ended.connections > 0 || format == Format::Wide)
        .map(|ended| [ended.cause.clone(), ended.connections.to_string()])
        .collect();
    if !met.is_empty() {
        text += "\n";
        text += &table(["ENDED", "CONNECTIONS"], met);
    }
    text += &lost(proxy, format);
    text += &refusals(&proxy.relay, format);
    text
}

/// Nothing where nobody has sent any.
fn udp(udp: &UdpReport, whose: &str) -> String {
    if udp.events.get("begun").is_none_or(|begun| *begun == 0) {
        return String::new();
    }
    format!(
        "{}{whose}; {} to tasks, {} to clients\n",
        count(udp.flows, "UDP flow"),
        count(udp.to_tasks.datagrams, "datagram"),
        udp.to_clients.datagrams,
    )
}

/// What goes between this node and others.
fn nodes(proxy: &ProxyReport) -> String {
    let (relay, trunks) = (&proxy.relay, &proxy.trunks);
    let mut text = String::new();
    let told =
        |counts: &std::collections::BTreeMap<String, u64>| counts.get("connected").copied().unwrap_or(0);
    let (asked, taken) = (told(&relay.heard), told(&relay.answered));
    if asked + taken + relay.unreached > 0 {
        text += &format!(
            "{} relayed to other nodes, {} asked for in vain; {} of theirs carried here, {} now\n",
            count(asked, "connection"),
            relay.unreached,
            taken,
            relay.carried,
        );
    }
    if relay.pauses > 0 {
        text += &format!(
            "other agents waited {} to be accepted\n",
            count(relay.pauses, "time")
        );
    }
    if trunks.open + trunks.taken + trunks.unreached + trunks.broken > 0 {
        text += &format!(
            "{} for datagrams to other nodes, {} from them; {} could not be made, {} broke\n",
            count(trunks.open, "connection"),
            trunks.taken,
            trunks.unreached,
            trunks.broken,
        );
    }
    text + &udp(&proxy.udp_for_nodes, " of other nodes' clients")
}

fn lost(proxy: &ProxyReport, format: Format) -> String {
    let others = &proxy.udp_for_nodes.lost;
    let rows = proxy.udp.lost.iter().map(|(reason, own)| {
        let other = others.get(reason).copied().unwrap_or(0);
        (reason, *own, other)
    });
    let met: Vec<_> = rows
        .filter(|(_, own, other)| own + other > 0 || format == Format::Wide)
        .map(|(reason, own, other)| [reason.clone(), own.to_string(), other.to_string()])
        .collect();
    if met.is_empty() {
        return String::new();
    }
    format!("\n{}", table(["LOST", "DATAGRAMS", "OF OTHER NODES"], met))
}

/// Who was not relayed for.
fn refusals(relay: &RelayReport, format: Format) -> String {
    let met: Vec<_> = relay
        .refused
        .iter()
        .filter(|(_, callers)| **callers > 0 || format == Format::Wide)
        .map(|(reason, callers)| [reason.clone(), callers.to_string()])
        .collect();
    if met.is_empty() {
        return String::new();
    }
    format!("\n{}", table(["REFUSED TO RELAY", "CALLERS"], met))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::relay::RelayReport;

    #[test]
    fn what_goes_between_nodes_and_what_is_lost_is_shown_where_there_is_any() {
        let quiet = of_sockets(&ProxyReport::default(), Format::Table);
        assert_eq!(quiet.lines().count(), 1, "{quiet}");
        let mut proxy = ProxyReport {
            relay: RelayReport {
                heard: [("connected".into(), 4)].into(),
                refused: [("authority".into(), 2), ("crowd".into(), 0)].into(),
                pauses: 3,
                ..RelayReport::default()
            },
            ..ProxyReport::default()
        };
        proxy.udp.flows = 3;
        proxy.udp.events = [("begun".into(), 5)].into();
        proxy.udp.to_tasks.datagrams = 9;
        proxy.udp.lost = [("congested".into(), 7), ("full".into(), 0)].into();
        proxy.udp_for_nodes.lost = [("congested".into(), 1)].into();
        proxy.trunks.open = 2;
        proxy.untold = true;
        let text = of_sockets(&proxy, Format::Table);
        for line in [
            "clients are not told when a task refuses their datagrams: the agent has no CAP_NET_RAW\n",
            "3 UDP flows; 9 datagrams to tasks, 0 to clients\n",
            "4 connections relayed to other nodes, 0 asked for in vain; 0 of theirs carried here, 0 now\n",
            "2 connections for datagrams to other nodes, 0 from them; 0 could not be made, 0 broke\n",
            "other agents waited 3 times to be accepted\n",
            "congested  7          1\n",
            "authority         2\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("full") && !text.contains("crowd"), "{text}");
        assert!(of_sockets(&proxy, Format::Wide).contains("crowd"));
    }
}
