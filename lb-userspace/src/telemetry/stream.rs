//! Figures of the stream between agents.

use prometheus_client::registry::Registry;

use super::metrics::{counters, gauges, set};
use crate::source::stream::StreamReport;

pub fn register(registry: &mut Registry, report: &StreamReport) {
    let followers = gauges(registry, "stream_followers", "Agents that follow this one");
    set(&followers, vec![], report.followers as f64);
    let connected = gauges(
        registry,
        "stream_connected",
        "1 while this agent follows a manager's",
    );
    set(&connected, vec![], report.connected as f64);
    let refused = counters(
        registry,
        "stream_refused",
        "Connections of agents that were refused, by reason",
    );
    for (reason, count) in &report.refused {
        let labels = vec![("reason", (*reason).to_owned())];
        refused.get_or_create(&labels).inc_by(*count);
    }
    let updates = counters(
        registry,
        "stream_updates",
        "Pictures and differences between agents",
    );
    let bytes = counters(
        registry,
        "stream_bytes",
        "Bytes of pictures and differences, before TLS",
    );
    for count in &report.updates {
        let labels = || {
            vec![
                ("direction", count.direction.to_owned()),
                ("kind", count.kind.to_owned()),
            ]
        };
        updates.get_or_create(&labels()).inc_by(count.updates);
        bytes.get_or_create(&labels()).inc_by(count.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::stream::Figures;

    #[test]
    fn all_that_happens_on_the_stream_has_its_figures() {
        let mut report = Figures::default().report();
        (report.followers, report.connected) = (2, 1);
        report.refused[1].1 = 3;
        (report.updates[1].updates, report.updates[1].bytes) = (4, 5);
        let mut registry = Registry::with_prefix("portico");
        register(&mut registry, &report);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "portico_stream_followers{} 2.0\n",
            "portico_stream_connected{} 1.0\n",
            "portico_stream_refused_total{reason=\"certificate\"} 3\n",
            "portico_stream_updates_total{direction=\"sent\",kind=\"diff\"} 4\n",
            "portico_stream_bytes_total{direction=\"sent\",kind=\"diff\"} 5\n",
            "portico_stream_bytes_total{direction=\"received\",kind=\"full\"} 0\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }
}
