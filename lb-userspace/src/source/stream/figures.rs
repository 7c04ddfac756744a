//! What the stream has done in this life of the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::refusal::Refusal;
use super::wire::update::Body;
use crate::present::Present;

/// Counted wherever it happens; read by [`Figures::report`].
#[derive(Debug, Default)]
pub struct Figures {
    followers: Arc<AtomicU64>,
    connected: Arc<AtomicU64>,
    refused: [AtomicU64; Refusal::LABELS.len()],
    sent: Updates,
    received: Updates,
}

/// By kind: in full, or what has changed.
#[derive(Debug, Default)]
struct Updates {
    full: Traffic,
    diff: Traffic,
}

#[derive(Debug, Default)]
struct Traffic {
    updates: AtomicU64,
    bytes: AtomicU64,
}

/// One moment of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Agents that follow this one.
    pub followers: u64,
    /// 1 while this one follows a manager's.
    pub connected: u64,
    /// Connections to this agent that were refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// In the order sent in full, sent as differences, received in full, received as differences.
    pub updates: [Count; 4],
}

/// Updates of one kind, and their bytes before TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub direction: &'static str,
    pub kind: &'static str,
    pub updates: u64,
    pub bytes: u64,
}

impl Figures {
    pub fn report(&self) -> StreamReport {
        let refused = Refusal::LABELS.iter().zip(&self.refused);
        StreamReport {
            followers: self.followers.load(Relaxed),
            connected: self.connected.load(Relaxed),
            refused: refused
                .map(|(label, count)| (*label, count.load(Relaxed)))
                .collect(),
            updates: [
                self.sent.full.count("sent", "full"),
                self.sent.diff.count("sent", "diff"),
                self.received.full.count("received", "full"),
                self.received.diff.count("received", "diff"),
            ],
        }
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let known = Refusal::LABELS.iter().zip(&self.refused);
        for (_, count) in known.filter(|(label, _)| **label == refusal.label()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sent(&self, body: Option<&Body>, bytes: usize) {
        self.sent.add(body, bytes);
    }

    pub(super) fn received(&self, body: Option<&Body>, bytes: usize) {
        self.received.add(body, bytes);
    }

    pub(super) fn follower(&self) -> Present {
        Present::of(&self.followers)
    }

    pub(super) fn connection(&self) -> Present {
        Present::of(&self.connected)
    }
}

impl Updates {
    fn add(&self, body: Option<&Body>, bytes: usize) {
        let traffic = match body {
            Some(Body::Full(_)) => &self.full,
            Some(Body::Diff(_)) | None => &self.diff,
        };
        traffic.updates.fetch_add(1, Relaxed);
        traffic.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Traffic {
    fn count(&self, direction: &'static str, kind: &'static str) -> Count {
        Count {
            direction,
            kind,
            updates: self.updates.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}
