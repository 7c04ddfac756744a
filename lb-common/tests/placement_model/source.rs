//! The source of truth: a log of revisions, of which each node has seen a prefix.

use super::rules::Time;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Record {
    pub tag: u64,
    pub node: u16,
    pub weight: u16,
    pub peak: u16,
    pub active: bool,
    pub first: u64,
    pub last: u64,
}

#[derive(Debug)]
pub struct Revision {
    pub number: u64,
    pub at: Time,
    pub members: Vec<Record>,
}

impl Revision {
    pub fn get(&self, tag: u64) -> Option<&Record> {
        self.members.iter().find(|m| m.tag == tag)
    }
}

pub struct Source {
    log: Vec<Rc<Revision>>,
    /// Nodes see all of a revision or nothing of it, and the stamps tell.
    whole: bool,
}

impl Source {
    pub fn new(whole: bool) -> Self {
        let empty = Revision {
            number: 0,
            at: 0,
            members: Vec::new(),
        };
        Self {
            log: vec![Rc::new(empty)],
            whole,
        }
    }

    pub fn latest(&self) -> Rc<Revision> {
        self.log[self.log.len() - 1].clone()
    }

    pub fn revision(&self, number: u64) -> Rc<Revision> {
        self.log[number as usize].clone()
    }

    /// How long a view of `revision` has been behind at `now`.
    pub fn staleness(&self, revision: u64, now: Time) -> Time {
        match self.log.get(revision as usize + 1) {
            Some(next) => now.saturating_sub(next.at),
            None => 0,
        }
    }

    fn commit(&mut self, at: Time, change: impl FnOnce(u64, &mut Vec<Record>)) {
        let number = self.log.len() as u64;
        let mut members = self.latest().members.clone();
        change(number, &mut members);
        self.log.push(Rc::new(Revision { number, at, members }));
    }

    /// New members: tag, node and weight.
    pub fn add(&mut self, at: Time, new: &[(u64, u16, u16)]) {
        let whole = self.whole as u64;
        self.commit(at, |number, members| {
            let record = |&(tag, node, weight): &_| Record {
                tag,
                node,
                weight,
                peak: weight,
                active: true,
                first: last(number) + whole,
                last: last(number),
            };
            members.extend(new.iter().map(record));
        });
    }

    pub fn set_active(&mut self, at: Time, tags: &[u64], active: bool) {
        self.commit(at, |number, members| {
            for member in members
                .iter_mut()
                .filter(|m| tags.contains(&m.tag) && m.active != active)
            {
                member.active = active;
                if active {
                    member.last = last(number);
                }
            }
        });
    }

    pub fn reweight(&mut self, at: Time, tag: u64, weight: u16) {
        self.commit(at, |number, members| {
            for member in members.iter_mut().filter(|m| m.tag == tag) {
                member.weight = weight;
                member.peak = member.peak.max(weight);
                member.last = last(number);
            }
        });
    }

    pub fn remove(&mut self, at: Time, tag: u64) {
        self.commit(at, |_, members| members.retain(|m| m.tag != tag));
    }
}

/// The stamp of an activation in a revision. Where revisions are seen whole, the first activation of a member comes half
/// a step later: whoever was activated in the same revision was there before it.
pub fn last(revision: u64) -> u64 {
    revision * 2
}
