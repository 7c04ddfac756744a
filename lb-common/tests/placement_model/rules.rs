//! The rules of `docs/flow-placement.md` as switches, so that each can be broken alone.

use lb_common::handshake;
use lb_common::placement::{self, Candidate, State, score};

/// Microseconds.
pub type Time = u64;
pub const MS: Time = 1000;
pub const SECOND: Time = 1000 * MS;

/// W: how long a member is known before it gets slots.
pub const WARMING: Time = 500 * MS;
/// How long after a change unknown datagrams are chased.
pub const UDP_WINDOW: Time = 30 * SECOND;
pub const SEED: u64 = 0x706f_7274_6963_6f21;
pub const SLOTS: usize = 256;

/// Which stamps of a member its excluders are judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stamps {
    Both,
    /// As from a file: nobody excludes anybody.
    Unknown,
    OnlyFirst,
    OnlyLast,
}

/// Whom an owner asks about a flow that it does not know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    Chain,
    CurrentAndPrevious,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub excluders: usize,
    /// Excluders on one node count once.
    pub by_node: bool,
    pub stamps: Stamps,
    /// Members of one revision are known to have come together.
    pub whole_revisions: bool,
    pub asked: Asked,
    pub warming: Time,
    /// A weight above the highest so far is used only after W, too.
    pub raises_warm: bool,
    /// An acknowledgement is taken for our SYN-ACK's if it lies up to 2²⁴ above it.
    pub loose_handshake: bool,
    /// A datagram that names another member than the own head is chased as after a change.
    pub chase_disputed: bool,
}

/// The rules as they are.
pub const TRUE: Rules = Rules {
    excluders: 2,
    by_node: true,
    stamps: Stamps::Both,
    whole_revisions: true,
    asked: Asked::Chain,
    warming: WARMING,
    raises_warm: true,
    loose_handshake: false,
    chase_disputed: true,
};

impl Rules {
    pub fn acknowledges(&self, acknowledgement: u32, isn: u32) -> bool {
        if self.loose_handshake {
            acknowledgement.wrapping_sub(isn) < 1 << 24
        } else {
            handshake::acknowledges(acknowledgement, isn)
        }
    }

    /// Tags of the nodes that can hold a flow of `slot`.
    pub fn chain(&self, slot: u32, members: &[Candidate]) -> Vec<u16> {
        if self.excluders == TRUE.excluders && self.by_node == TRUE.by_node {
            let judged: Vec<_> = members.iter().map(|m| self.judged(m)).collect();
            let nodes = placement::chain(SEED, slot, &judged);
            return nodes.into_iter().filter(|&node| node != 0).collect();
        }
        let mut nodes = self.unbounded_chain(slot, members);
        nodes.truncate(lb_common::table::CHAIN);
        nodes
    }

    /// The chain by its definition, and as long as it would be.
    pub fn unbounded_chain(&self, slot: u32, members: &[Candidate]) -> Vec<u16> {
        let mut found: Vec<_> = members
            .iter()
            .filter(|m| {
                let mut nodes: Vec<_> = self.excluders(slot, members, m).iter().map(|a| a.node).collect();
                if self.by_node {
                    nodes.sort_unstable();
                    nodes.dedup();
                }
                nodes.len() < self.excluders
            })
            .collect();
        found.sort_by_key(|m| std::cmp::Reverse((score(SEED, slot, m.tag, m.peak), m.tag)));
        let mut nodes = Vec::new();
        for member in found {
            if !nodes.contains(&member.node) {
                nodes.push(member.node);
            }
        }
        nodes
    }

    /// Members that were active, or about to be, all of `m`'s life and outrank it.
    pub fn excluders(&self, slot: u32, members: &[Candidate], m: &Candidate) -> Vec<Candidate> {
        let height = score(SEED, slot, m.tag, m.peak);
        let m = self.judged(m);
        let there = |a: &Candidate| {
            a.state == State::Active || a.state == State::Warming && m.state == State::Warming
        };
        let elder = |a: &Candidate| there(a) && self.judged(a).last < m.first;
        let above = |a: &Candidate| score(SEED, slot, a.tag, a.weight) > height;
        members.iter().filter(|a| elder(a) && above(a)).copied().collect()
    }

    fn judged(&self, m: &Candidate) -> Candidate {
        match self.stamps {
            Stamps::Both => *m,
            Stamps::Unknown => Candidate {
                first: 0,
                last: u64::MAX,
                ..*m
            },
            Stamps::OnlyFirst => Candidate { last: m.first, ..*m },
            Stamps::OnlyLast => Candidate { first: m.last, ..*m },
        }
    }
}
