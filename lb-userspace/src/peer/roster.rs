//! Who has been heard, and whether to believe it. Pure but for the clock it is handed.
//!
//! A replayed heartbeat must not keep a dead node alive, and clocks are not to be trusted with it. Each life of an
//! agent has a random *boot* number; a heartbeat of an unknown life is believed only if it echoes the receiver's own
//! boot, which nobody could have done before. Within a life, the sequence must grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PeerReport;
use super::wire::Heartbeat;

/// Silence after which a node is suspected: three heartbeats.
pub const SILENCE: Duration = Duration::from_millis(300);
/// A longer gap between two looks than this was this agent's own: it says nothing about the others.
const PAUSE: Duration = Duration::from_millis(200);
/// Heartbeats in a row that clear a suspicion, and the longest gap within a row.
const ROW: u32 = 3;
const GAP: Duration = Duration::from_millis(200);

/// All other nodes.
pub struct Roster {
    /// Of this agent.
    boot: u64,
    peers: BTreeMap<Arc<str>, Peer>,
    judged: Option<Instant>,
}

#[derive(Default)]
struct Peer {
    /// The boot heard last, believed or not: what is echoed.
    echo: u64,
    /// The life believed in, and the last sequence of it.
    believed: Option<(u64, u64)>,
    heard: Option<Instant>,
    row: u32,
    suspected: bool,
    unhealthy: BTreeSet<u64>,
}

/// What becomes of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The cluster has no such node, or it is this one.
    Stranger,
    /// Older than one heard before, or the same once more.
    Old,
    /// Of a life that has not shown yet that it hears this agent.
    Unproven,
    Accepted {
        health_changed: bool,
        back: bool,
    },
}

impl Roster {
    pub fn new(boot: u64) -> Self {
        Self {
            boot,
            peers: BTreeMap::new(),
            judged: None,
        }
    }

    /// Takes the other nodes of the cluster, forgetting those that are not among them.
    pub fn follow<'n>(&mut self, others: impl Iterator<Item = &'n Arc<str>>) {
        let mut before = std::mem::take(&mut self.peers);
        self.peers = others
            .map(|name| (Arc::clone(name), before.remove(name).unwrap_or_default()))
            .collect();
    }

    /// What to echo to a node; none for a node that is no peer.
    pub fn echo(&self, node: &str) -> Option<u64> {
        self.peers.get(node).map(|peer| peer.echo)
    }

    pub fn hear(&mut self, heartbeat: &Heartbeat, now: Instant) -> Heard {
        let Some(peer) = self.peers.get_mut(heartbeat.node.as_str()) else {
            return Heard::Stranger;
        };
        let same_life = peer.believed.filter(|(boot, _)| *boot == heartbeat.boot);
        if same_life.is_some_and(|(_, sequence)| heartbeat.sequence <= sequence) {
            return Heard::Old;
        }
        peer.echo = heartbeat.boot;
        if same_life.is_none() && heartbeat.echo != self.boot {
            return Heard::Unproven;
        }
        peer.believed = Some((heartbeat.boot, heartbeat.sequence));
        let in_row = peer
            .heard
            .is_some_and(|heard| now.saturating_duration_since(heard) <= GAP);
        peer.row = if in_row { peer.row.saturating_add(1) } else { 1 };
        peer.heard = Some(now);
        let back = peer.suspected && peer.row >= ROW;
        peer.suspected &= !back;
        Heard::Accepted {
            health_changed: peer.learn(heartbeat),
            back,
        }
    }

    /// Suspects nodes that have fallen silent; returns those that were not suspected before, and for how long they have
    /// been silent. A node that was never heard may have no agent yet, and is not suspected.
    pub fn judge(&mut self, now: Instant) -> Vec<(Arc<str>, Duration)> {
        let paused = self
            .judged
            .is_some_and(|judged| now.saturating_duration_since(judged) > PAUSE);
        self.judged = Some(now);
        let mut silent = Vec::new();
        for (name, peer) in &mut self.peers {
            let Some(heard) = &mut peer.heard else { continue };
            if paused {
                *heard = now;
            }
            let silence = now.saturating_duration_since(*heard);
            if silence > SILENCE && !peer.suspected {
                peer.suspected = true;
                silent.push((Arc::clone(name), silence));
            }
        }
        silent
    }

    pub fn suspected(&self) -> BTreeSet<Arc<str>> {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.suspected)
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// Tags that a node says are unhealthy.
    pub fn unhealthy(&self, node: &str) -> BTreeSet<u64> {
        self.peers
            .get(node)
            .map(|peer| peer.unhealthy.clone())
            .unwrap_or_default()
    }

    pub fn reports(&self) -> BTreeMap<Arc<str>, PeerReport> {
        let report = |peer: &Peer| PeerReport {
            heard: peer.heard,
            suspected: peer.suspected,
        };
        self.peers
            .iter()
            .map(|(name, peer)| (Arc::clone(name), report(peer)))
            .collect()
    }
}

impl Peer {
    /// Replaces what was known of the heartbeat's range. An agent that has just started does not know yet what is
    /// healthy: until it does, nothing is taken back.
    fn learn(&mut self, heartbeat: &Heartbeat) -> bool {
        let unlisted = |tag: &u64| heartbeat.unhealthy.binary_search(tag).is_err();
        let before = self.unhealthy.len();
        if heartbeat.settled {
            self.unhealthy
                .retain(|tag| !(heartbeat.range.contains(tag) && unlisted(tag)));
        }
        let kept = self.unhealthy.len();
        self.unhealthy.extend(&heartbeat.unhealthy);
        kept != before || self.unhealthy.len() != kept
    }
}

#[cfg(test)]
mod tests;
