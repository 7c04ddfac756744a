//! What the relay has done in this life of the agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::reach::Unreachable;
use super::refusal::Refusal;
use crate::plane::proxy::answer::Answer;
use crate::present::Present;

/// Counted wherever it happens; read by [`Figures::report`].
#[derive(Debug, Default)]
pub struct Figures {
    carried: Arc<AtomicU64>,
    cut: AtomicU64,
    answered: [AtomicU64; Answer::ALL.len()],
    refused: [AtomicU64; Refusal::LABELS.len()],
    heard: [AtomicU64; Answer::ALL.len()],
    unreached: AtomicU64,
    waited: AtomicU64,
    spared: AtomicU64,
    pauses: AtomicU64,
}

/// One moment of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReport {
    /// Connections of other nodes to tasks of this one, now.
    pub carried: u64,
    /// Of all so far, those that did not end with the end of both sides.
    pub cut: u64,
    /// What other nodes were told about the connections they asked for.
    pub answered: BTreeMap<String, u64>,
    /// Callers that did not get so far, by reason.
    pub refused: BTreeMap<String, u64>,
    /// What this node was told about the connections it asked for.
    pub heard: BTreeMap<String, u64>,
    /// Connections that this node asked for in vain: there was no answer.
    pub unreached: u64,
    /// Handshakes that a client had to wait for.
    pub waited: u64,
    /// Connections that found a handshake finished.
    pub spared: u64,
    /// Times that callers waited to be accepted.
    #[serde(default)]
    pub pauses: u64,
    /// Nodes to which nothing is relayed, by name.
    #[serde(default)]
    pub unreachable: Vec<Unreachable>,
}

impl Figures {
    /// Without the nodes.
    pub fn report(&self) -> RelayReport {
        let labels = Answer::ALL.map(Answer::label);
        RelayReport {
            carried: self.carried.load(Relaxed),
            cut: self.cut.load(Relaxed),
            answered: read(&labels, &self.answered),
            refused: read(&Refusal::LABELS, &self.refused),
            heard: read(&labels, &self.heard),
            unreached: self.unreached.load(Relaxed),
            waited: self.waited.load(Relaxed),
            spared: self.spared.load(Relaxed),
            pauses: self.pauses.load(Relaxed),
            unreachable: Vec::new(),
        }
    }

    /// A connection, as long as it is carried.
    pub fn carrying(&self) -> Present {
        Present::of(&self.carried)
    }

    pub fn cut(&self) {
        self.cut.fetch_add(1, Relaxed);
    }

    pub fn answered(&self, answer: Answer) {
        self.answered[usize::from(answer.byte())].fetch_add(1, Relaxed);
    }

    pub fn refused(&self, refusal: &Refusal) {
        let known = Refusal::LABELS.iter().zip(&self.refused);
        for (_, count) in known.filter(|(label, _)| **label == refusal.label()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn heard(&self, answer: Answer) {
        self.heard[usize::from(answer.byte())].fetch_add(1, Relaxed);
    }

    pub fn unreached(&self) {
        self.unreached.fetch_add(1, Relaxed);
    }

    pub fn waited(&self) {
        self.waited.fetch_add(1, Relaxed);
    }

    pub fn spared(&self) {
        self.spared.fetch_add(1, Relaxed);
    }

    pub fn paused(&self) {
        self.pauses.fetch_add(1, Relaxed);
    }
}

fn read(labels: &[&'static str], counts: &[AtomicU64]) -> BTreeMap<String, u64> {
    let labels = labels.iter().map(|label| (*label).to_owned());
    labels
        .zip(counts.iter().map(|count| count.load(Relaxed)))
        .collect()
}
