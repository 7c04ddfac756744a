//! `portico status`: the agent at one glance, failing parts first.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::facts::{Facts, Peer, Plane, Source};
use super::naming::without_vip;
use super::service::kept_shape;
use super::serving::{self, Unusual};
use crate::model::merge::Conflict;
use crate::model::{Backend, Service, Snapshot, Standing};
use crate::names::report::NamesReport;

/// Most problems of one kind that are told one by one.
const SHOWN: usize = 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub generation: u64,
    /// Failing ones first, here and below.
    pub planes: Vec<Plane>,
    /// What is not served by packet programs as most is.
    #[serde(default)]
    pub unusual: Vec<Unusual>,
    pub sources: Vec<Source>,
    pub peers: Vec<PeerRow>,
    /// The name server; none where the configuration asks for none.
    #[serde(default)]
    pub names: Option<NamesReport>,
    pub services: Totals,
    /// Everything that is not as it should be, most urgent first.
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    #[serde(flatten)]
    pub peer: Peer,
    /// See [`NodeRow::plane`](super::node::NodeRow::plane).
    #[serde(default)]
    pub plane: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub services: usize,
    pub backends: usize,
    /// Backends that take new connections.
    pub active: usize,
    pub nodes: usize,
}

/// The view of these facts.
pub fn status(facts: &Facts) -> Status {
    let mut planes = facts.planes.clone();
    planes.sort_by_key(|plane| plane.problem.is_none() && plane.report.problems.is_empty());
    let mut sources = facts.sources.clone();
    sources.sort_by_key(|source| source.error.is_none());
    let mut peers = facts.peers.clone();
    peers.sort_by_key(|peer| (!peer.suspected, !peer.away));
    Status {
        node: facts.node.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        generation: facts.snapshot.generation,
        services: totals(&facts.snapshot),
        problems: problems(facts, &planes, &sources, &peers),
        planes,
        unusual: serving::unusual(facts),
        sources,
        peers: peers.into_iter().map(|peer| row(facts, peer)).collect(),
        names: facts.names.clone(),
    }
}

fn row(facts: &Facts, peer: Peer) -> PeerRow {
    let node = facts.snapshot.nodes.get(&*peer.node);
    PeerRow {
        plane: node.and_then(|node| facts.plane_shown(node)),
        peer,
    }
}

fn totals(snapshot: &Snapshot) -> Totals {
    let backends = snapshot.services.values().flat_map(|service| &service.backends);
    Totals {
        services: snapshot.services.len(),
        backends: backends.clone().count(),
        active: backends
            .filter(|backend| backend.standing == Standing::Active)
            .count(),
        nodes: snapshot.nodes.len(),
    }
}

fn problems(facts: &Facts, planes: &[Plane], sources: &[Source], peers: &[Peer]) -> Vec<Problem> {
    let (names, snapshot) = (facts.names.as_ref(), &*facts.snapshot);
    let failed = planes.iter().filter_map(|plane| plane.problem.clone());
    let reported = planes
        .iter()
        .flat_map(|plane| &plane.report.problems)
        .map(Problem::from);
    let behind = planes
        .iter()
        .filter(|plane| plane.problem.is_none() && plane.report.generation < snapshot.generation)
        .map(|plane| {
            Problem::new(format!("plane {} is behind", plane.name))
                .because(format!(
                    "applied generation {} of {}",
                    plane.report.generation, snapshot.generation
                ))
                .traffic("served as the older generation says")
        });
    let refused = sources.iter().filter_map(|source| {
        let refused = Problem::of(source.error.as_ref()?);
        if &*source.name != "file" {
            // Sources of engines say whose traffic flows, and how.
            return Some(refused);
        }
        Some(Problem {
            why: Some(refused.what),
            traffic: match source.age_ms {
                Some(_) => "flows as the last good picture says".into(),
                None => "this agent changes nothing; what an earlier one programmed goes on".into(),
            },
            fix: refused.fix,
            ..Problem::new(format!("source {} was refused", source.name))
        })
    });
    let silent = peers.iter().filter(|peer| peer.suspected).map(|peer| {
        Problem::new(format!("node {} is silent", peer.node))
            .because(last_heard(peer))
            .traffic("new connections go to other nodes, connections it has are still sent to it")
            .fix(format!(
                "see whether {} and its agent run, and that udp/7950 passes between the nodes",
                peer.node
            ))
    });
    let is_heard = |node: &str| {
        !peers
            .iter()
            .any(|peer| peer.node == node && (peer.suspected || peer.away))
    };
    let relays = planes.iter().filter_map(|plane| plane.report.proxy.as_ref());
    let unreachable = relays.flat_map(|proxy| &proxy.relay.unreachable);
    // Of a node that is not heard either, what is said of that says all.
    let unreachable = unreachable.filter(|relay| is_heard(&relay.node)).map(|relay| {
        Problem::new(format!("node {} cannot be reached by the relay", relay.node))
            .because(&relay.why)
            .traffic(
                "clients of this node's proxy wait for its tasks in vain, and get others where there are any",
            )
            .fix(&relay.fix)
    });
    let away = peers.iter().filter(|peer| peer.away).map(|peer| {
        Problem::new(format!("the agent of {} is away", peer.node))
            .because(format!("{}; the node itself answers", last_heard(peer)))
            .traffic("flows as that agent last programmed it; changes are not followed there")
            .fix(format!("see whether an agent runs on {}", peer.node))
    });
    let unnamed = names.iter().flat_map(|names| &names.problems).map(Problem::from);
    let stale = names.filter(|names| names.problems.is_empty() && names.generation < snapshot.generation);
    let stale = stale.map(|names| {
        Problem::new("the name server is behind")
            .because(format!(
                "tells the names of generation {} of {}",
                names.generation, snapshot.generation
            ))
            .traffic("names are answered as the older generation says; connections follow the new one")
    });
    failed
        .chain(reported)
        .chain(behind)
        .chain(refused)
        .chain(yielded(facts))
        .chain(serving::unserved(facts))
        .chain(noted(facts))
        .chain(silent)
        .chain(away)
        .chain(unreachable)
        .chain(unnamed)
        .chain(stale)
        .chain(idle(snapshot))
        .chain(first_of(snapshot, kept_shape))
        .chain(first_of(snapshot, without_vip))
        .collect()
}

/// What two sources claim.
fn yielded(facts: &Facts) -> Vec<Problem> {
    let problem = |conflict: &Conflict| {
        Problem::new(conflict.to_string())
            .traffic("flows as the earlier source says; everything else of the later one is served")
            .fix(conflict.fix())
    };
    let all = facts.conflicts.iter().map(problem);
    few(all.collect(), "claims of two sources")
}

/// What single objects of sources lack.
fn noted(facts: &Facts) -> Vec<Problem> {
    let notes = facts.sources.iter().flat_map(|source| &source.notes);
    let all = notes.map(|note| note.problem.clone());
    few(
        all.collect(),
        "objects that a source could not take as they are written",
    )
}

/// A mistake in a template can be made a thousand times.
fn few(mut problems: Vec<Problem>, what: &str) -> Vec<Problem> {
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        let rest = Problem::new(format!("{more} more {what}")).traffic("as with those above");
        problems.push(rest.fix("see all of them: portico status -o json"));
    }
    problems
}

fn last_heard(peer: &Peer) -> String {
    match peer.heard_ms {
        Some(ms) => format!("last heard {:.1} s ago", ms as f64 / 1000.0),
        None => "never heard".into(),
    }
}

/// Services that nobody serves as they should be, in one problem: they may be thousands.
fn idle(snapshot: &Snapshot) -> Option<Problem> {
    let is_active = |backend: &Backend| backend.standing == Standing::Active;
    let idle = |service: &&Arc<Service>| !service.backends.iter().any(is_active);
    let mut services = snapshot
        .services
        .values()
        .filter(idle)
        .map(|service| &service.name);
    let first = services.next()?;
    let what = match services.count() {
        0 => format!("service {first} has no active backend"),
        more => format!("service {first} and {more} more have no active backend"),
    };
    Some(
        Problem::new(what)
            .traffic("new connections go to backends that warm, drain or fail; where there are none, they are refused after 10 s")
            .fix(format!("see why: portico backend ls {first}")),
    )
}

/// Services that have the same problem, in one.
fn first_of(snapshot: &Snapshot, problem: fn(&Service) -> Option<Problem>) -> Option<Problem> {
    let services = snapshot.services.values();
    let mut problems = services.filter_map(|service| problem(service));
    let mut first = problems.next()?;
    let more = problems.count();
    if more > 0 {
        first.what = format!("{} (and {more} more services)", first.what);
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;
    use crate::plane;
    use crate::plane::proxy::ProxyReport;
    use crate::plane::proxy::relay::{RelayReport, Unreachable};

    #[test]
    fn all_well_shows_no_problem() {
        assert_eq!(status(&sample::facts()).problems, []);
    }

    #[test]
    fn failing_parts_come_first() {
        let mut facts = sample::facts();
        facts.planes[0].report.problems.push(plane::Problem {
            error: "cannot attach XDP to eth1: device busy".into(),
            traffic: "eth1 is served by tc".into(),
            fix: "detach the other program".into(),
        });
        facts.peers[0].away = true;
        facts.peers[1].suspected = true;
        facts.sources[0].error = Some("services.yaml:3: unknown key `prots`".into());
        let status = status(&facts);
        assert_eq!(status.peers[0].peer.node, "node3");
        let whats: Vec<_> = status
            .problems
            .iter()
            .map(|problem| problem.what.as_str())
            .collect();
        assert_eq!(
            whats,
            [
                "cannot attach XDP to eth1: device busy",
                "source file was refused",
                "node node3 is silent",
                "the agent of node2 is away"
            ]
        );
    }

    #[test]
    fn a_node_that_is_heard_and_that_the_relay_cannot_reach_is_a_problem() {
        let mut facts = sample::facts();
        let unreachable = |node: &str| Unreachable {
            node: node.into(),
            why: "no answer in time".into(),
            fix: "let tcp/7950 pass between the nodes".into(),
        };
        facts.planes[0].report.proxy = Some(ProxyReport {
            relay: RelayReport {
                unreachable: ["node2", "node3"].map(unreachable).into(),
                ..RelayReport::default()
            },
            ..ProxyReport::default()
        });
        facts.peers[1].suspected = true;
        let [silent, unreachable] = &status(&facts).problems[..] else {
            panic!("two problems")
        };
        assert_eq!(silent.what, "node node3 is silent");
        assert_eq!(unreachable.what, "node node2 cannot be reached by the relay");
        assert_eq!(
            unreachable.fix.as_deref(),
            Some("let tcp/7950 pass between the nodes")
        );
    }

    #[test]
    fn a_plane_that_has_not_applied_the_generation_is_behind() {
        let mut facts = sample::facts();
        facts.planes[0].report.generation -= 1;
        assert_eq!(status(&facts).problems[0].what, "plane ebpf is behind");
    }

    #[test]
    fn services_without_an_active_backend_are_one_problem() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            for task in ["web.1", "web.2", "web.3"] {
                sample::backend(snapshot, task).standing = Standing::Unhealthy;
            }
        });
        assert_eq!(
            status(&facts).problems[0].what,
            "service web has no active backend"
        );
        sample::change(&mut facts, |snapshot| {
            let other = snapshot.services["web"].clone();
            snapshot.services.insert("zoo".into(), other);
        });
        assert_eq!(status(&facts).problems.len(), 1);
        assert!(
            status(&facts).problems[0]
                .what
                .ends_with("and 1 more have no active backend")
        );
    }
}
