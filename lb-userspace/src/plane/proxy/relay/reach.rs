//! Which nodes cannot be reached, as the last try had it: for operators to know.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::dial::{Destination, Failure};

/// Of all threads together: they have the same way to a node.
#[derive(Default)]
pub struct Reach(Mutex<HashMap<Destination, Tried>>);

#[derive(Default)]
struct Tried {
    reached: Option<Instant>,
    /// Since it was reached last.
    failing: Option<Unreachable>,
}

/// A node to which nothing is relayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreachable {
    pub node: String,
    pub why: String,
    pub fix: String,
}

impl Reach {
    pub fn reached(&self, destination: &Destination) {
        let mut nodes = self.nodes();
        let tried = nodes.entry(destination.clone()).or_default();
        tried.reached = Some(Instant::now());
        if tried.failing.take().is_some() {
            tracing::info!(node = %destination.node, "the node can be reached by the relay again");
        }
    }

    /// A try that `began` then has failed. It says nothing where another one has succeeded meanwhile.
    pub fn failed(&self, destination: &Destination, began: Instant, failure: &Failure, port: u16) {
        let mut nodes = self.nodes();
        let tried = nodes.entry(destination.clone()).or_default();
        if tried.reached.is_some_and(|reached| reached >= began) {
            return;
        }
        let unreachable = Unreachable {
            node: destination.node.to_string(),
            why: failure.to_string(),
            fix: match failure {
                Failure::Untrusted(_) => {
                    "set the same cluster.name and cluster.secret on both nodes, and restart their agents"
                        .into()
                }
                _ => format!("let tcp/{port} pass between the nodes"),
            },
        };
        if tried.failing.is_none() {
            let Unreachable { node, why, fix } = &unreachable;
            tracing::warn!(%node, %why, %fix, "the node cannot be reached by the relay");
        }
        tried.failing = Some(unreachable);
    }

    pub fn is_failing(&self, destination: &Destination) -> bool {
        let nodes = self.nodes();
        nodes
            .get(destination)
            .is_some_and(|tried| tried.failing.is_some())
    }

    /// By name. Those that are not known any more are forgotten.
    pub fn report(&self, is_known: impl Fn(&Destination) -> bool) -> Vec<Unreachable> {
        let mut nodes = self.nodes();
        nodes.retain(|destination, _| is_known(destination));
        let mut failing: Vec<_> = nodes.values().filter_map(|tried| tried.failing.clone()).collect();
        failing.sort_by(|one, other| one.node.cmp(&other.node));
        failing
    }

    /// A panic while the lock was held leaves what the next try sets right.
    fn nodes(&self) -> MutexGuard<'_, HashMap<Destination, Tried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_slow_failure_says_nothing_after_a_success() {
        let (reach, began) = (Reach::default(), Instant::now());
        let destination = Destination {
            node: "node2".into(),
            address: Ipv4Addr::new(192, 0, 2, 12),
        };
        reach.failed(&destination, began, &Failure::Silent, 7950);
        let [unreachable] = &reach.report(|_| true)[..] else {
            panic!("one node")
        };
        assert_eq!(unreachable.fix, "let tcp/7950 pass between the nodes");
        reach.reached(&destination);
        assert!(!reach.is_failing(&destination));
        reach.failed(&destination, began, &Failure::Silent, 7950);
        assert_eq!(reach.report(|_| true), []);
    }

    #[test]
    fn a_node_that_is_gone_is_no_matter() {
        let reach = Reach::default();
        let destination = Destination {
            node: "node2".into(),
            address: Ipv4Addr::new(192, 0, 2, 12),
        };
        reach.failed(&destination, Instant::now(), &Failure::Silent, 7950);
        assert_eq!(reach.report(|_| false), []);
        assert!(!reach.is_failing(&destination));
    }
}
