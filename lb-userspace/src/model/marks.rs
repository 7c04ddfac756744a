//! What is known about backends and nodes beside the desired state: drains, failed health checks, silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What an operator can drain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainObject {
    /// All backends of a node.
    Node(Arc<str>),
    /// One task of one service.
    Backend { service: Arc<str>, task: Arc<str> },
}

/// An operator's word on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainMark {
    pub object: DrainObject,
    pub drained: bool,
    /// Milliseconds since 1970 by the clock of the node it was said on; the later word wins.
    pub stamp: u64,
}

/// The latest word on every object that ever was drained. Merging is commutative, associative and idempotent, so that
/// agents that have heard the same marks in whatever order agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drains(BTreeMap<DrainObject, Word>);

/// Ordered so that the later word is the greater, and of two at one instant the cautious one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    stamp: u64,
    drained: bool,
}

/// Everything but the desired state that a snapshot depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub drains: Drains,
    /// Tags of failing backends, by the node that checks them.
    pub unhealthy: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// Nodes this agent has not heard for three probes.
    pub suspected: BTreeSet<Arc<str>>,
    /// Other nodes without packet programs.
    pub by_proxy: BTreeSet<Arc<str>>,
}

/// Most objects remembered, and the longest name: bounds what a peer can make this agent keep and repeat.
pub const MAX_DRAINS: usize = 1024;
pub const MAX_NAME: usize = 255;
/// How long an undrained object is remembered, so that an agent that was away hears of it, and one that no source names:
/// one day, in milliseconds.
pub const DAY: u64 = 24 * 3600 * 1000;

/// Why a mark is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{MAX_DRAINS} nodes and backends are marked already, which is as many as every agent keeps")]
    Full,
    #[error("its name is longer than {MAX_NAME} bytes")]
    LongName,
    #[error("an agent has given a later word on it, with a clock that runs ahead")]
    Superseded,
}

impl Refusal {
    /// What an operator can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Full => {
                "write `state: draining` into the services file; undrain what needs no drain any more (drains.json in the \
                 runtime directory lists all): it makes room after a day, as do objects that no source names"
            }
            Self::LongName => "write `state: draining` into the services file, or give it a shorter name",
            Self::Superseded => {
                "set the clocks of the nodes, and write `state: draining` into the services file until then"
            }
        }
    }
}

impl Drains {
    /// Takes a mark in; tells whether anything changed.
    pub fn learn(&mut self, mark: DrainMark) -> bool {
        let news = self.is_news(&mark);
        if news {
            self.0.insert(
                mark.object,
                Word {
                    stamp: mark.stamp,
                    drained: mark.drained,
                },
            );
        }
        news
    }

    /// Whether [`learn`](Self::learn) would change anything.
    pub fn is_news(&self, mark: &DrainMark) -> bool {
        self.refusal(mark).is_none()
    }

    /// Why [`learn`](Self::learn) would not take the mark; none where it would.
    pub fn refusal(&self, mark: &DrainMark) -> Option<Refusal> {
        let word = Word {
            stamp: mark.stamp,
            drained: mark.drained,
        };
        match self.0.get(&mark.object) {
            Some(known) => (*known >= word).then_some(Refusal::Superseded),
            None if !mark.object.fits() => Some(Refusal::LongName),
            None => (self.0.len() >= MAX_DRAINS).then_some(Refusal::Full),
        }
    }

    /// As if nobody had ever marked it.
    pub fn forget(&mut self, object: &DrainObject) {
        self.0.remove(object);
    }

    /// The mark for a command given now: later than any word known, even one from a clock that runs ahead.
    pub fn command(&self, object: DrainObject, drained: bool, now: u64) -> DrainMark {
        let after = self
            .0
            .get(&object)
            .map_or(0, |known| known.stamp.saturating_add(1));
        DrainMark {
            object,
            drained,
            stamp: now.max(after),
        }
    }

    pub fn is_drained(&self, object: &DrainObject) -> bool {
        self.0.get(object).is_some_and(|word| word.drained)
    }

    /// Forgets objects that were undrained long ago.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, word| word.drained || word.stamp.saturating_add(DAY) > now);
        self.0.len() != before
    }

    pub fn iter(&self) -> impl Iterator<Item = DrainMark> {
        self.0.iter().map(|(object, word)| DrainMark {
            object: object.clone(),
            drained: word.drained,
            stamp: word.stamp,
        })
    }
}

impl Marks {
    /// Whether the node that checks this backend says that it fails.
    pub fn is_unhealthy(&self, node: &str, backend: u64) -> bool {
        self.unhealthy
            .get(node)
            .is_some_and(|tags| tags.contains(&backend))
    }
}

impl DrainObject {
    /// Whether its names are no longer than names may be.
    pub fn fits(&self) -> bool {
        match self {
            Self::Node(name) => name.len() <= MAX_NAME,
            Self::Backend { service, task } => service.len().max(task.len()) <= MAX_NAME,
        }
    }
}

impl fmt::Display for DrainObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Backend { service, task } => write!(f, "backend {service}/{task}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(name: &str, drained: bool, stamp: u64) -> DrainMark {
        DrainMark {
            object: DrainObject::Node(name.into()),
            drained,
            stamp,
        }
    }

    fn learned(marks: impl IntoIterator<Item = DrainMark>) -> Drains {
        let mut drains = Drains::default();
        marks.into_iter().for_each(|mark| {
            drains.learn(mark);
        });
        drains
    }

    #[test]
    fn the_latest_command_wins_even_over_a_clock_that_runs_ahead() {
        let mut drains = learned([mark("a", true, 5_000)]);
        let command = drains.command(DrainObject::Node("a".into()), false, 1_000);
        assert!(drains.learn(command));
        assert!(!drains.is_drained(&DrainObject::Node("a".into())));
    }

    #[test]
    fn an_undrained_object_is_forgotten_after_a_day_and_a_drained_one_never() {
        let mut drains = learned([mark("a", false, 1), mark("b", true, 1)]);
        assert!(!drains.expire(DAY));
        assert!(drains.expire(DAY + 1));
        assert_eq!(drains.iter().count(), 1);
    }

    #[test]
    fn a_peer_cannot_make_the_agent_remember_without_bound() {
        let drains = learned((0..2 * MAX_DRAINS).map(|n| mark(&n.to_string(), true, 1)));
        assert_eq!(drains.iter().count(), MAX_DRAINS);
        assert_eq!(learned([mark(&"x".repeat(256), true, 1)]), Drains::default());
    }

    #[test]
    fn a_mark_that_is_not_taken_has_a_reason() {
        let full = learned((0..MAX_DRAINS).map(|n| mark(&n.to_string(), true, 5)));
        assert_eq!(full.refusal(&mark("new", true, 9)), Some(Refusal::Full));
        assert_eq!(full.refusal(&mark("7", false, 4)), Some(Refusal::Superseded));
        assert_eq!(full.refusal(&mark("7", false, 6)), None);
        let long = mark(&"x".repeat(256), true, 1);
        assert_eq!(Drains::default().refusal(&long), Some(Refusal::LongName));
    }

    proptest! {
        #[test]
        fn agents_that_heard_the_same_marks_in_any_order_agree(
            marks in proptest::collection::vec(("[ab]", any::<bool>(), 0u64..4), 0..12),
        ) {
            let marks: Vec<DrainMark> = marks.iter().map(|(name, drained, stamp)| mark(name, *drained, *stamp)).collect();
            let twice = marks.iter().chain(&marks).rev().cloned();
            prop_assert_eq!(learned(marks.clone()), learned(twice));
        }
    }
}
