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
    /// What a node saw itself decides who is asked sooner.
    pub observed: bool,
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
    /// Nodes that are suspected stay in the chains.
    pub ask_suspected: bool,
}

/// The rules as they are.
pub const TRUE: Rules = Rules {
    excluders: 2,
    by_node: true,
    stamps: Stamps::Both,
    observed: true,
    whole_revisions: true,
    asked: Asked::Chain,
    warming: WARMING,
    raises_warm: true,
    loose_handshake: false,
    chase_disputed: true,
    ask_suspected: true,
};

impl Rules {
    /// The rules as they are, with the stamps that there are in play.
    pub fn unbroken(&self) -> Self {
        Self {
            stamps: match self.stamps {
                Stamps::Unknown => Stamps::Unknown,
                _ => TRUE.stamps,
            },
            observed: self.observed,
            ..TRUE
        }
    }

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
            .filter(|m| !self.are_enough(&self.excluders(slot, members, m)))
            .collect();
        found.sort_by_key(|m| {
            let seen = |m: &Candidate| (m.seen_first, m.seen_last);
            let unlikely = self.are_enough(&self.excluders_by(seen, slot, members, m));
            (
                unlikely,
                std::cmp::Reverse((score(SEED, slot, m.tag, m.peak), m.tag)),
            )
        });
        let mut nodes = Vec::new();
        for member in found {
            if !nodes.contains(&member.node) {
                nodes.push(member.node);
            }
        }
        nodes
    }

    fn are_enough(&self, excluders: &[Candidate]) -> bool {
        let mut nodes: Vec<_> = excluders.iter().map(|a| a.node).collect();
        if self.by_node {
            nodes.sort_unstable();
            nodes.dedup();
        }
        nodes.len() >= self.excluders
    }

    /// Members that were active, or about to be, all of `m`'s life and outrank it.
    pub fn excluders(&self, slot: u32, members: &[Candidate], m: &Candidate) -> Vec<Candidate> {
        self.excluders_by(|m| (m.first, m.last), slot, members, m)
    }

    fn excluders_by(
        &self,
        stamps: fn(&Candidate) -> (u64, u64),
        slot: u32,
        members: &[Candidate],
        m: &Candidate,
    ) -> Vec<Candidate> {
        let height = score(SEED, slot, m.tag, m.peak);
        let m = self.judged(m);
        let there = |a: &Candidate| {
            a.state == State::Active || a.state == State::Warming && m.state == State::Warming
        };
        let elder = |a: &Candidate| there(a) && stamps(&self.judged(a)).1 < stamps(&m).0;
        let above = |a: &Candidate| score(SEED, slot, a.tag, a.weight) > height;
        members.iter().filter(|a| elder(a) && above(a)).copied().collect()
    }

    fn judged(&self, m: &Candidate) -> Candidate {
        let (seen_first, seen_last) = match self.observed {
            true => (m.seen_first, m.seen_last),
            false => (0, u64::MAX),
        };
        let m = &Candidate {
            seen_first,
            seen_last,
            ..*m
        };
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
