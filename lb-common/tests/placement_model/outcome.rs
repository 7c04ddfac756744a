//! What became of the packets of live flows, and the causes of loss that the rules admit.

use super::rules::{Rules, Time, WARMING};
use super::world::Chaser;
use lb_common::placement::{Candidate, State, score};
use lb_common::table::CHAIN;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Delivered to the holder at the node that the ingress chose.
    Direct,
    /// Delivered to the holder after a chase.
    Chased,
    /// Delivered to the holder at the node that a hint named.
    Hinted,
    /// A new connection was handed on because its first owner could not take it.
    Moved,
    /// A packet went around its head, on a node that was suspected.
    Diverted,
    /// Datagrams of a task that has gone, delivered to another.
    Rescued,
    /// Dropped; the client sends again.
    Dropped,
    /// A flow that the rules admit to lose.
    Lost(Residual),
    /// A flow lost for which the rules have no excuse.
    Violation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Residual {
    /// The holder's task has gone.
    TaskGone,
    /// A view that took part had been behind for longer than W.
    Lag,
    /// More nodes could hold it than could be asked.
    BeyondSix,
    /// Two members that outranked the holder were passed over at its birth, for different reasons.
    TwoDeviations,
    /// No member was active when it began, so that one still warming took it.
    NoneActive,
    /// Datagrams: it began while views differed, so that two nodes created it.
    DatagramsBornApart,
    /// Datagrams: it was deflected at its birth, or its head was suspected; and the head takes them again.
    DatagramsDiverted,
    /// Datagrams: the change lies further back than unknown datagrams are chased.
    OldDatagrams,
}

/// What the node knew that sent a flow's first packet to its holder.
#[derive(Clone)]
pub struct Birth {
    pub at: Time,
    pub view: std::rc::Rc<[Candidate]>,
    pub staleness: Time,
    /// It was handed on because its first owner could not take it, or went around one that was suspected.
    pub diverted: bool,
    /// The set had changed so shortly before that views may have differed.
    pub apart: bool,
}

/// Who gave up on a flow, and with what view.
pub struct End<'a> {
    pub chaser: &'a Chaser,
    pub slot: u32,
    /// How many nodes could be asked.
    pub room: usize,
    /// Unbroken, whichever were played.
    pub rules: Rules,
}

/// Whether the rules admit this loss of a flow held by `holder`.
pub fn judge(holder: u64, birth: &Birth, end: &End) -> Result<Residual, String> {
    let Chaser {
        view,
        staleness,
        suspected,
    } = end.chaser;
    if birth.staleness > WARMING || *staleness > WARMING {
        return Ok(Residual::Lag);
    }
    if birth.view.iter().all(|m| m.state != State::Active) {
        return Ok(Residual::NoneActive);
    }
    let Some(member) = view.iter().find(|m| m.tag == holder) else {
        return Err("the node that gave up had not heard of the holder".into());
    };
    let excluders = end.rules.excluders(end.slot, view, member);
    let mut causes: Vec<_> = excluders
        .iter()
        .map(|a| cause(a, member, birth, end.slot))
        .collect();
    causes.sort_unstable();
    causes.dedup();
    let on_two_nodes = excluders.iter().any(|a| a.node != excluders[0].node);
    if on_two_nodes && causes.len() > 1 {
        return Ok(Residual::TwoDeviations);
    }
    let mut chain = end.rules.unbounded_chain(end.slot, view);
    // In the order in which they were asked: of a full list that loses its last this is a suspected one.
    let listed = chain.len().min(CHAIN);
    chain[..listed].sort_by_key(|node| suspected.contains(node));
    match chain.iter().position(|&node| node == member.node) {
        Some(at) if at >= end.room => Ok(Residual::BeyondSix),
        at => Err(format!(
            "holder {at:?} in the chain {chain:?}, excluders {causes:?}"
        )),
    }
}

/// Why an excluder did not get the flow itself.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// The holder's own weight was another.
    HolderChanged,
    /// Its state or weight was another in the view that the flow was born from; by node, which changes as a whole.
    Changed(u16),
    /// It was head and passed over: it could not take the flow, or was suspected.
    PassedOver(u16),
}

fn cause(excluder: &Candidate, holder: &Candidate, birth: &Birth, slot: u32) -> Cause {
    let rank = |m: &Candidate| score(super::rules::SEED, slot, m.tag, m.weight);
    let then = |tag| birth.view.iter().find(|m| m.tag == tag);
    let Some(excluder_then) = then(excluder.tag).filter(|m| m.state != State::Draining) else {
        return Cause::Changed(excluder.node);
    };
    match then(holder.tag) {
        Some(holder_then) if rank(excluder_then) > rank(holder_then) => Cause::PassedOver(excluder.node),
        Some(holder_then) if holder_then.weight != holder.weight => Cause::HolderChanged,
        _ => Cause::Changed(excluder.node),
    }
}

/// Everything that happened in a run.
#[derive(Default)]
pub struct Report {
    pub counts: BTreeMap<Outcome, u64>,
    pub established: u64,
    /// The first few, in words.
    pub violations: Vec<String>,
}

impl Report {
    pub fn count(&mut self, outcome: Outcome) {
        *self.counts.entry(outcome).or_default() += 1;
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }

    pub fn lost(&self) -> u64 {
        let lost = |o: &Outcome| matches!(o, Outcome::Lost(r) if *r != Residual::TaskGone);
        self.counts.iter().filter(|(o, _)| lost(o)).map(|(_, n)| n).sum()
    }

    pub fn violation(&mut self, words: String) {
        self.count(Outcome::Violation);
        if self.violations.len() < 5 {
            self.violations.push(words);
        }
    }

    pub fn add(&mut self, other: Report) {
        for (outcome, n) in other.counts {
            *self.counts.entry(outcome).or_default() += n;
        }
        self.established += other.established;
        self.violations.extend(other.violations);
        self.violations.truncate(5);
    }
}
