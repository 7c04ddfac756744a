//! Figures of the plane that serves by sockets, and of what goes between nodes for it.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::metrics::{Labels, counters, gauges, set};
use crate::plane::proxy::relay::RelayReport;
use crate::plane::proxy::{ProxyReport, TrunkReport, UdpReport};

pub fn register(registry: &mut Registry, proxy: &ProxyReport) {
    let opened = counters(
        registry,
        "proxy_connections",
        "Connections that the proxy accepted",
    );
    opened.get_or_create(&vec![]).inc_by(proxy.opened);
    let ended = counters(registry, "proxy_ended", "Connections that ended, by why");
    for cause in &proxy.ended {
        let label = vec![("cause", cause.cause.clone())];
        ended.get_or_create(&label).inc_by(cause.connections);
    }
    let retries = counters(registry, "proxy_retries", "Further tasks asked for a client");
    retries.get_or_create(&vec![]).inc_by(proxy.retries);
    let pauses = counters(
        registry,
        "proxy_pauses",
        "Times that clients waited to be accepted, for want of descriptors or with as many connections as may be",
    );
    pauses.get_or_create(&vec![]).inc_by(proxy.pauses);
    let bytes = counters(registry, "proxy_bytes", "Bytes carried, by direction");
    for (to, moved) in [("task", proxy.bytes_to_tasks), ("client", proxy.bytes_to_clients)] {
        bytes.get_or_create(&vec![("to", to.into())]).inc_by(moved);
    }
    datagrams(
        registry,
        [("clients", &proxy.udp), ("nodes", &proxy.udp_for_nodes)],
    );
    trunks(registry, &proxy.trunks);
    relay(registry, &proxy.relay);
}

fn datagrams(registry: &mut Registry, reports: [(&str, &UdpReport); 2]) {
    let flows = gauges(
        registry,
        "proxy_udp_flows",
        "UDP flows, by whose clients' they are",
    );
    let events = counters(registry, "proxy_udp_events", "What happened to UDP flows");
    let carried = counters(registry, "proxy_udp_datagrams", "Datagrams sent, by direction");
    let bytes = counters(
        registry,
        "proxy_udp_bytes",
        "Bytes of datagrams sent, by direction",
    );
    let lost = counters(registry, "proxy_udp_lost", "Datagrams not carried, by why");
    for (whose, udp) in reports {
        let of = || vec![("of", whose.to_owned())];
        set(&flows, of(), udp.flows as f64);
        each(&events, "event", &udp.events, of());
        each(&lost, "reason", &udp.lost, of());
        for (to, traffic) in [("task", udp.to_tasks), ("client", udp.to_clients)] {
            let labels = || [of(), vec![("to", to.to_owned())]].concat();
            carried.get_or_create(&labels()).inc_by(traffic.datagrams);
            bytes.get_or_create(&labels()).inc_by(traffic.bytes);
        }
    }
}

fn trunks(registry: &mut Registry, report: &TrunkReport) {
    let trunks = gauges(
        registry,
        "relay_trunks",
        "Connections that carry datagrams between nodes",
    );
    for (direction, count) in [("to", report.open), ("from", report.taken)] {
        set(&trunks, vec![("direction", direction.into())], count as f64);
    }
    let failed = counters(
        registry,
        "relay_trunks_failed",
        "Connections for datagrams to other nodes that failed",
    );
    for (why, count) in [("unreached", report.unreached), ("broken", report.broken)] {
        failed.get_or_create(&vec![("why", why.into())]).inc_by(count);
    }
}

fn relay(registry: &mut Registry, report: &RelayReport) {
    let carried = gauges(
        registry,
        "relay_carried",
        "Connections of other nodes to tasks of this one",
    );
    set(&carried, vec![], report.carried as f64);
    let cut = counters(
        registry,
        "relay_cut",
        "Connections of other nodes that were cut off",
    );
    cut.get_or_create(&vec![]).inc_by(report.cut);
    for (name, help, label, counts) in [
        (
            "relay_answered",
            "What other nodes were told",
            "answer",
            &report.answered,
        ),
        (
            "relay_heard",
            "What other nodes have told",
            "answer",
            &report.heard,
        ),
        (
            "relay_refused",
            "Callers that were refused",
            "reason",
            &report.refused,
        ),
    ] {
        each(&counters(registry, name, help), label, counts, vec![]);
    }
    let unreached = counters(registry, "relay_unreached", "Asked of other nodes in vain");
    unreached.get_or_create(&vec![]).inc_by(report.unreached);
    let pauses = counters(
        registry,
        "relay_pauses",
        "Times that other agents waited to be accepted, for want of descriptors mostly",
    );
    pauses.get_or_create(&vec![]).inc_by(report.pauses);
    let handshakes = counters(
        registry,
        "relay_handshakes",
        "Handshakes with other nodes, by whether a client waited",
    );
    for (client, count) in [("waited", report.waited), ("spared", report.spared)] {
        handshakes
            .get_or_create(&vec![("client", client.into())])
            .inc_by(count);
    }
}

/// One figure for each of the counts, by its name.
fn each(family: &Family<Labels, Counter>, label: &'static str, counts: &BTreeMap<String, u64>, of: Labels) {
    for (name, count) in counts {
        let labels = [of.clone(), vec![(label, name.clone())]].concat();
        family.get_or_create(&labels).inc_by(*count);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::telemetry::metrics::tests::assert_documented;

    #[test]
    fn what_goes_between_nodes_has_its_figures() {
        let mut proxy = ProxyReport::default();
        proxy.udp.flows = 3;
        proxy.udp_for_nodes.to_tasks.datagrams = 4;
        proxy.udp.lost = [("congested".into(), 5)].into();
        proxy.trunks.taken = 6;
        proxy.relay.heard = [("gone".into(), 7)].into();
        proxy.relay.pauses = 8;
        let mut registry = Registry::with_prefix("portico");
        register(&mut registry, &proxy);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "portico_proxy_udp_flows{of=\"clients\"} 3.0\n",
            "portico_proxy_udp_datagrams_total{of=\"nodes\",to=\"task\"} 4\n",
            "portico_proxy_udp_lost_total{of=\"clients\",reason=\"congested\"} 5\n",
            "portico_relay_trunks{direction=\"from\"} 6.0\n",
            "portico_relay_heard_total{answer=\"gone\"} 7\n",
            "portico_relay_pauses_total{} 8\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert_documented(&text);
    }
}
