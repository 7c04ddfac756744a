//! Who shows that it lives, and whether to believe it. Pure but for the clock it is handed.
//!
//! A replayed heartbeat must not keep a dead node alive, and clocks are not to be trusted with it. Each life of an
//! agent has a random *boot* number; a heartbeat of an unknown life is believed only if it echoes the receiver's own
//! boot, which nobody could have done before. Within a life, the sequence must grow.
//!
//! An agent that is away is not a node that is down: its programs and tables go on. Such a node's kernel refuses
//! heartbeats, and a refusal is as good a sign of life, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::Heartbeat;
use super::{PeerReport, Presence};

/// How long a heartbeat shows that a node lives: three of them.
pub const SILENCE: Duration = Duration::from_millis(300);
/// How long a refusal does. Linux answers six datagrams in a row to one destination, then one a second
/// (`net.ipv4.icmp_ratelimit`), and heartbeats meet that second up to 100 ms late; the rest is for what is late besides.
pub const REFUSAL: Duration = Duration::from_millis(1500);
/// For how long after the last heartbeat that was believed those of another life, which is not yet, keep a node from suspicion: an
/// agent that takes over is believed only once it has heard the others, and one who replays heartbeats gains no more than this.
const SUCCESSION: Duration = Duration::from_millis(1500);
/// A longer gap between two looks than this was this agent's own: it says nothing about the others.
const PAUSE: Duration = Duration::from_millis(200);
/// Signs of life in a row that clear a suspicion, and the longest gap between heartbeats of a row.
const ROW: u32 = 3;
const GAP: Duration = Duration::from_millis(200);

/// All other nodes.
pub struct Roster {
    /// Of this agent.
    boot: u64,
    peers: BTreeMap<Arc<str>, Peer>,
    /// Nodes that had no packet programs when an agent before this one heard them.
    before: BTreeSet<Arc<str>>,
    judged: Instant,
    /// Since when this agent has looked without a pause.
    awake: Instant,
}

#[derive(Default)]
struct Peer {
    /// The boot heard last, believed or not: what is echoed.
    echo: u64,
    /// The life believed in, and the last sequence of it.
    believed: Option<(u64, u64)>,
    heard: Option<Instant>,
    /// The latest heartbeat of a life that is not believed in.
    unproven: Option<Instant>,
    /// Its latest refusal since it was heard: one from before says nothing about the silence of now.
    refused: Option<Instant>,
    /// Signs of life in a row since it is suspected.
    row: u32,
    presence: Presence,
    unhealthy: BTreeSet<u64>,
    by_proxy: bool,
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
    },
}

/// A node is judged differently than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub node: Arc<str>,
    pub before: Presence,
    pub now: Presence,
    /// Since its last sign of life.
    pub silence: Duration,
}

impl Roster {
    pub fn new(boot: u64, by_proxy: BTreeSet<Arc<str>>, now: Instant) -> Self {
        Self {
            boot,
            peers: BTreeMap::new(),
            before: by_proxy,
            judged: now,
            awake: now,
        }
    }

    /// Takes the other nodes of the cluster, forgetting those that are not among them.
    pub fn follow<'n>(&mut self, others: impl Iterator<Item = &'n Arc<str>>) {
        let mut before = std::mem::take(&mut self.peers);
        let new = |name: &Arc<str>| Peer {
            by_proxy: self.before.contains(name),
            ..Peer::default()
        };
        self.peers = others
            .map(|name| {
                let peer = before.remove(name).unwrap_or_else(|| new(name));
                (Arc::clone(name), peer)
            })
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
            peer.unproven = Some(now);
            // An agent that is coming back refuses nothing any more, and is believed only some heartbeats later. One who
            // records and replays such a heartbeat gains what one who forges a refusal has.
            if peer.presence == Presence::Away {
                peer.refused = Some(now);
            }
            return Heard::Unproven;
        }
        peer.believed = Some((heartbeat.boot, heartbeat.sequence));
        peer.row = if is_fresh(peer.heard, GAP, now) {
            peer.row.saturating_add(1)
        } else {
            1
        };
        (peer.heard, peer.refused) = (Some(now), None);
        peer.by_proxy = heartbeat.by_proxy;
        Heard::Accepted {
            health_changed: peer.learn(heartbeat),
        }
    }

    /// The node's kernel refused a heartbeat, not earlier than at `when`: its agent is away.
    pub fn refuse(&mut self, node: &str, when: Instant) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.heard.is_none_or(|heard| heard < when) {
            peer.row = if is_fresh(peer.refused, REFUSAL, when) {
                peer.row.saturating_add(1)
            } else {
                1
            };
            peer.refused = Some(when);
        }
    }

    /// Judges every node anew, and returns those that changed.
    pub fn judge(&mut self, now: Instant) -> Vec<Change> {
        if now.saturating_duration_since(self.judged) > PAUSE {
            self.awake = now;
        }
        self.judged = now;
        let mut changes = Vec::new();
        for (name, peer) in &mut self.peers {
            let presence = peer.judge(self.awake, now);
            let before = std::mem::replace(&mut peer.presence, presence);
            if before == presence {
                continue;
            }
            if presence == Presence::Suspected {
                peer.row = 0;
            }
            let sign = peer.heard.max(peer.refused);
            changes.push(Change {
                node: Arc::clone(name),
                before,
                now: presence,
                silence: sign.map_or(Duration::ZERO, |sign| now.saturating_duration_since(sign)),
            });
        }
        changes
    }

    pub fn suspected(&self) -> BTreeSet<Arc<str>> {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.presence == Presence::Suspected)
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// Nodes that said last that they have no packet programs.
    pub fn by_proxy(&self) -> BTreeSet<Arc<str>> {
        let peers = self.peers.iter().filter(|(_, peer)| peer.by_proxy);
        peers.map(|(name, _)| Arc::clone(name)).collect()
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
            presence: peer.presence,
        };
        self.peers
            .iter()
            .map(|(name, peer)| (Arc::clone(name), report(peer)))
            .collect()
    }
}

/// Whether something happened at most so long ago.
fn is_fresh(when: Option<Instant>, length: Duration, now: Instant) -> bool {
    when.is_some_and(|when| now.saturating_duration_since(when) <= length)
}

impl Peer {
    /// `awake`: since when this agent could have heard it.
    fn judge(&self, awake: Instant, now: Instant) -> Presence {
        let succeeds = is_fresh(self.unproven, SILENCE, now) && is_fresh(self.heard, SUCCESSION, now);
        let heard = succeeds || is_fresh(self.heard, SILENCE, now);
        let refuses = is_fresh(self.refused, REFUSAL, now);
        match self.presence {
            Presence::Suspected if self.row < ROW => Presence::Suspected,
            _ if heard => Presence::Heard,
            _ if refuses => Presence::Away,
            // A node that never showed that it lives may not be there yet.
            Presence::Unheard => Presence::Unheard,
            before if is_fresh(Some(awake), SILENCE, now) => before,
            _ => Presence::Suspected,
        }
    }

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
