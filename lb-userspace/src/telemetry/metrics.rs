//! Figures for Prometheus. Names and labels are listed in `docs/operations.md`; labels are bounded by the number of
//! verdicts, nodes and sources.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::backend::state;
use crate::api::facts::{Facts, Plane};
use crate::model::Standing;
use crate::plane::FlowReport;

pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// This moment as OpenMetrics text.
pub fn text(facts: &Facts) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("portico");
    let generation = gauges(&mut registry, "generation", "Generation of the snapshot");
    set(&generation, vec![], facts.snapshot.generation as f64);
    for plane in &facts.planes {
        of_plane(&mut registry, plane);
    }
    backends(&mut registry, facts);
    sources(&mut registry, facts);
    peers(&mut registry, facts);
    if let Some(names) = &facts.names {
        super::names::register(&mut registry, names);
    }
    if let Some(stream) = &facts.stream {
        super::stream::register(&mut registry, stream);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn peers(registry: &mut Registry, facts: &Facts) {
    let suspected = gauges(
        registry,
        "node_suspected",
        "1 where the node shows no sign of life",
    );
    let away = gauges(
        registry,
        "node_agent_away",
        "1 where the node answers, and no agent there",
    );
    for peer in &facts.peers {
        let node = || vec![("node", peer.node.clone())];
        set(&suspected, node(), f64::from(u8::from(peer.suspected)));
        set(&away, node(), f64::from(u8::from(peer.away)));
    }
}

fn of_plane(registry: &mut Registry, plane: &Plane) {
    let packets = counters(registry, "packets", "Packets by what became of them");
    let bytes = counters(registry, "bytes", "Bytes by what became of their packets");
    for counter in &plane.report.counters {
        let verdict = || vec![("verdict", counter.verdict.clone())];
        packets.get_or_create(&verdict()).inc_by(counter.packets);
        bytes.get_or_create(&verdict()).inc_by(counter.bytes);
    }
    let name = || vec![("plane", plane.name.clone())];
    let applied = gauges(
        registry,
        "applied_generation",
        "Generation that the plane carries out",
    );
    set(&applied, name(), plane.report.generation as f64);
    let duration = gauges(
        registry,
        "apply_seconds",
        "How long the latest snapshot took to be carried out",
    );
    set(&duration, name(), plane.report.applied_in as f64 / 1e6);
    let problems = gauges(
        registry,
        "plane_problems",
        "What does not work, as portico status lists it",
    );
    let failed = usize::from(plane.problem.is_some());
    set(&problems, name(), (plane.report.problems.len() + failed) as f64);
    if let Some(proxy) = &plane.report.proxy {
        super::proxy::register(registry, proxy);
    }
    let flows = gauges(registry, "flows", "Flows of this node's tasks");
    // Zero would be a claim where nobody has counted yet.
    if plane.report.flows.generation.is_some() {
        let FlowReport {
            established, closing, ..
        } = plane.report.flows;
        set(&flows, vec![("state", "established".into())], established as f64);
        set(&flows, vec![("state", "closing".into())], closing as f64);
    }
}

fn backends(registry: &mut Registry, facts: &Facts) {
    let services = gauges(registry, "services", "Services of the snapshot");
    set(&services, vec![], facts.snapshot.services.len() as f64);
    let backends = gauges(registry, "backends", "Backends of the snapshot by state");
    let all = || {
        facts
            .snapshot
            .services
            .values()
            .flat_map(|service| &service.backends)
    };
    for standing in [
        Standing::Active,
        Standing::Warming,
        Standing::Draining,
        Standing::Unhealthy,
    ] {
        let count = all().filter(|backend| backend.standing == standing).count();
        set(&backends, vec![("state", state(standing).into())], count as f64);
    }
}

fn sources(registry: &mut Registry, facts: &Facts) {
    let age = gauges(
        registry,
        "source_age_seconds",
        "Since the source's latest picture was accepted",
    );
    let refused = gauges(
        registry,
        "source_refused",
        "1 while the source's latest picture is refused",
    );
    for source in &facts.sources {
        let name = || vec![("source", source.name.clone())];
        if let Some(milliseconds) = source.age_ms {
            set(&age, name(), milliseconds as f64 / 1e3);
        }
        set(&refused, name(), f64::from(u8::from(source.error.is_some())));
    }
}

pub(super) fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn counters(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn set(gauges: &Gauges, labels: Labels, value: f64) {
    gauges.get_or_create(&labels).set(value);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::sample;
    use crate::plane::CounterReport;

    /// The document has every figure that is in the text.
    pub fn assert_documented(text: &str) {
        let documented = include_str!("../../../docs/operations.md");
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            assert!(
                documented.contains(&format!("`{name}{suffix}`")),
                "{name} is not in docs/operations.md"
            );
        }
    }

    #[test]
    fn every_figure_is_documented() {
        let mut facts = sample::facts();
        facts.names = Some(crate::telemetry::names::sample());
        facts.stream = Some(crate::source::stream::Figures::default().report());
        let text = text(&facts).unwrap();
        assert_documented(&text);
    }

    #[test]
    fn verdicts_generations_and_states_have_their_figures() {
        let mut facts = sample::facts();
        facts.planes[0].report.counters = vec![CounterReport {
            verdict: "relayed".into(),
            packets: 3,
            bytes: 180,
        }];
        facts.peers[0].away = true;
        facts.peers[1].suspected = true;
        let text = text(&facts).unwrap();
        for line in [
            "portico_generation{} 5.0\n",
            "portico_applied_generation{plane=\"ebpf\"} 5.0\n",
            "portico_packets_total{verdict=\"relayed\"} 3\n",
            "portico_bytes_total{verdict=\"relayed\"} 180\n",
            "portico_backends{state=\"active\"} 3.0\n",
            "portico_source_age_seconds{source=\"file\"} 1.5\n",
            "portico_node_suspected{node=\"node3\"} 1.0\n",
            "portico_node_agent_away{node=\"node2\"} 1.0\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }
}
