//! Figures of the name server. Labels are bounded by the lists here and the addresses of the configuration.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::metrics::{Labels, counters, gauges, set};
use crate::names::report::{NamesReport, UpstreamState};

/// What became of queries: each is one of these.
const OUTCOMES: [&str; 14] = [
    "found",
    "nodata",
    "nxdomain",
    "refused",
    "invalid",
    "unready",
    "dropped",
    "limited_dropped",
    "limited_truncated",
    "cached",
    "stale",
    "forwarded_answered",
    "forwarded_failed",
    "overloaded",
];

/// What happened on the way.
const EVENTS: [&str; 10] = [
    "truncated",
    "coalesced",
    "tcp_connections",
    "tcp_refused",
    "upstream_queries",
    "upstream_timeouts",
    "upstream_nonsense",
    "upstream_tcp",
    "upstream_loops",
    "send_failed",
];

pub fn register(registry: &mut Registry, names: &NamesReport) {
    let queries = counters(registry, "dns_queries", "Queries by protocol");
    for (protocol, counter) in [("udp", "received_udp"), ("tcp", "received_tcp")] {
        let labels = vec![("protocol", protocol.to_owned())];
        queries.get_or_create(&labels).inc_by(names.count(counter));
    }
    let outcomes = counters(registry, "dns_outcomes", "Queries by what became of them");
    for outcome in OUTCOMES {
        let labels = vec![("outcome", outcome.to_owned())];
        outcomes.get_or_create(&labels).inc_by(names.count(outcome));
    }
    let events = counters(
        registry,
        "dns_events",
        "What happened while queries were answered",
    );
    for event in EVENTS {
        let labels = vec![("event", event.to_owned())];
        events.get_or_create(&labels).inc_by(names.count(event));
    }
    let seconds = Family::<Labels, Counter<f64, AtomicU64>>::default();
    registry.register(
        "dns_seconds",
        "Time that queries took, by who answered",
        seconds.clone(),
    );
    let timed = counters(registry, "dns_timed", "Queries whose time is counted");
    for (by, took) in [("here", names.took.here), ("upstream", names.took.upstream)] {
        let labels = vec![("by", by.to_owned())];
        seconds.get_or_create(&labels).inc_by(took.seconds);
        timed.get_or_create(&labels).inc_by(took.queries);
    }
    let generation = gauges(registry, "dns_generation", "Generation whose names are told");
    set(&generation, vec![], names.generation as f64);
    let listening = gauges(registry, "dns_listening", "1 where names are answered");
    for address in &names.listening {
        let labels = vec![("address", address.address.to_string())];
        set(
            &listening,
            labels,
            f64::from(u8::from(address.error.is_none() && address.present)),
        );
    }
    let upstreams = gauges(registry, "dns_upstream_up", "1 where the upstream answers");
    for upstream in &names.upstreams {
        let labels = vec![
            ("upstream", upstream.address.to_string()),
            ("domain", upstream.domain.clone().unwrap_or_default()),
        ];
        let up = upstream.state == UpstreamState::Answers;
        set(&upstreams, labels, f64::from(u8::from(up)));
    }
}

/// A name server of which everything can be said.
#[cfg(test)]
pub fn sample() -> NamesReport {
    use crate::names::report::{Listening, Times, Took, Upstream};

    let counters = dns::Statistics::default();
    let counters = counters.counters().map(|(name, _)| (name.to_owned(), 1));
    NamesReport {
        listening: vec![Listening {
            address: ([169, 254, 20, 10], 53).into(),
            error: None,
            present: true,
        }],
        upstreams: vec![Upstream {
            address: ([192, 0, 2, 53], 53).into(),
            domain: None,
            state: UpstreamState::Silent,
            usual_us: 0,
        }],
        counters: counters.collect(),
        took: Times {
            here: Took {
                queries: 4,
                seconds: 0.5,
            },
            ..Times::default()
        },
        ..NamesReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_server_is_a_figure() {
        for (counter, _) in sample().counters {
            let received = ["received_udp", "received_tcp"];
            let known = OUTCOMES.iter().chain(&EVENTS).chain(&received);
            assert_eq!(known.filter(|known| **known == counter).count(), 1, "{counter}");
        }
    }

    #[test]
    fn queries_addresses_and_upstreams_have_their_figures() {
        let mut registry = Registry::with_prefix("portico");
        register(&mut registry, &sample());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "portico_dns_queries_total{protocol=\"udp\"} 1\n",
            "portico_dns_outcomes_total{outcome=\"found\"} 1\n",
            "portico_dns_seconds_total{by=\"here\"} 0.5\n",
            "portico_dns_timed_total{by=\"here\"} 4\n",
            "portico_dns_listening{address=\"169.254.20.10:53\"} 1.0\n",
            "portico_dns_upstream_up{upstream=\"192.0.2.53:53\",domain=\"\"} 0.0\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }
}
