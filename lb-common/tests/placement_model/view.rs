//! What one node's agent knows, and the tables it makes of it.

use super::rules::{Asked, Rules, SEED, SLOTS, Time};
use super::source::{Record, Revision, last};
use lb_common::placement::{Candidate, State, fill_heads, head, put_last, runner_up};
use lb_common::table::CHAIN;
use std::collections::HashMap;
use std::rc::Rc;

/// What a view remembers of a member since it learned of it.
struct Learned {
    warm_from: Time,
    /// The weight up to which the member counts: known for W as its highest.
    settled: u16,
    peak: u16,
    peak_from: Time,
    active: bool,
    weight: u16,
    /// By the number of what this view took in; unknown for what an agent finds when it starts.
    seen_first: u64,
    seen_last: u64,
}

/// Head of a slot: member tag and node.
pub type Head = Option<(u64, u16)>;

pub struct View {
    rules: Rules,
    pub revision: Rc<Revision>,
    /// How often it learned something.
    news: u64,
    learned: HashMap<u64, Learned>,
    /// The agent is down since then: its tables stay as they are.
    frozen: Option<Time>,
    candidates: Rc<[Candidate]>,
    /// When the tables must be made again although no revision arrives.
    stale_at: Time,
    heads: Vec<Head>,
    previous: Vec<Head>,
    /// Nodes that it does not hear, and until when.
    suspects: (Vec<u16>, Time),
    /// Per slot, when its head last changed or a member above it began to drain.
    changed: Vec<Time>,
}

impl View {
    pub fn new(rules: Rules, revision: Rc<Revision>, now: Time) -> Self {
        let mut view = Self {
            rules,
            revision: revision.clone(),
            news: 0,
            learned: HashMap::new(),
            frozen: None,
            candidates: Rc::new([]),
            stale_at: 0,
            heads: vec![None; SLOTS],
            previous: vec![None; SLOTS],
            suspects: (Vec::new(), 0),
            changed: vec![0; SLOTS],
        };
        view.learn(revision, now);
        view
    }

    /// A revision arrives; one that was overtaken by a later one changes nothing.
    pub fn learn(&mut self, revision: Rc<Revision>, now: Time) {
        if revision.number >= self.revision.number {
            self.revision = revision;
            self.news += 1;
            self.make(now);
        }
    }

    pub fn freeze(&mut self, now: Time) {
        self.settle(now);
        self.frozen = Some(now);
    }

    /// The agent is back. It knows the members that it knew, but not what it has seen of them.
    pub fn thaw(&mut self, now: Time) {
        self.frozen = None;
        self.suspects = (Vec::new(), 0);
        for learned in self.learned.values_mut() {
            (learned.seen_first, learned.seen_last) = (0, u64::MAX);
        }
        self.settle(now);
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn candidates(&mut self, now: Time) -> Rc<[Candidate]> {
        self.settle(now);
        self.candidates.clone()
    }

    pub fn head(&mut self, slot: u32, now: Time) -> Head {
        self.settle(now);
        self.heads[slot as usize]
    }

    pub fn changed(&self, slot: u32) -> Time {
        self.changed[slot as usize]
    }

    /// It hears these nodes no more, and all others again.
    pub fn suspect(&mut self, nodes: Vec<u16>, until: Time) {
        if self.frozen.is_none() {
            self.suspects = (nodes, until);
        }
    }

    /// An agent that is down leaves its suspicions in the tables.
    pub fn suspected(&self, now: Time) -> &[u16] {
        let (nodes, until) = &self.suspects;
        if self.frozen.unwrap_or(now) < *until {
            nodes
        } else {
            &[]
        }
    }

    /// Where a packet is sent: to the head, or while nodes are suspected to the head among the others. New connections
    /// always, later packets where the head is on such a node.
    pub fn choose(&mut self, slot: u32, new: bool, now: Time) -> Head {
        let (members, first) = (self.candidates(now), self.head(slot, now));
        let suspected = self.suspected(now);
        if suspected.is_empty() || !new && first.is_none_or(|(_, node)| !suspected.contains(&node)) {
            return first;
        }
        let mut others = members.to_vec();
        others.retain(|m| !suspected.contains(&m.node));
        match others.iter().any(|m| m.state == State::Active) {
            true => name(&others, head(SEED, slot, &others)),
            false => first,
        }
    }

    /// Where a connection goes that `refused` could not take: the best of the others.
    pub fn next(&mut self, slot: u32, refused: u64, now: Time) -> Head {
        let members = self.candidates(now);
        match self.head(slot, now) {
            Some((tag, _)) if tag == refused => name(&members, runner_up(SEED, slot, &members)),
            other => other,
        }
    }

    /// The nodes to ask about an unknown flow.
    pub fn chain(&mut self, slot: u32, now: Time) -> Vec<u16> {
        let members = self.candidates(now);
        let listed: Vec<u16> = match self.rules.asked {
            Asked::Chain => self.rules.chain(slot, &members),
            Asked::CurrentAndPrevious => {
                let slot = slot as usize;
                [self.heads[slot], self.previous[slot]]
                    .into_iter()
                    .flatten()
                    .map(|(_, node)| node)
                    .collect()
            }
        };
        let suspected = |node| self.suspected(now).contains(&node);
        let mut nodes = [0; CHAIN];
        nodes[..listed.len()].copy_from_slice(&listed);
        put_last(&mut nodes, suspected);
        let asked = |&node: &u16| node != 0 && (self.rules.ask_suspected || !suspected(node));
        nodes.into_iter().filter(asked).collect()
    }

    pub fn knows(&self, tag: u64) -> Option<&Record> {
        self.revision.get(tag)
    }

    /// Whether a member takes new connections: not while it drains, unless none is active.
    pub fn takes(&mut self, tag: u64, now: Time) -> bool {
        let members = self.candidates(now);
        let draining = members.iter().any(|m| m.tag == tag && m.state == State::Draining);
        !draining || members.iter().all(|m| m.state != State::Active)
    }

    fn settle(&mut self, now: Time) {
        if self.frozen.is_none() && now >= self.stale_at {
            self.make(now);
        }
    }

    fn make(&mut self, now: Time) {
        let (rules, revision, news) = (self.rules, self.revision.clone(), self.news);
        self.learned.retain(|&tag, _| revision.get(tag).is_some());
        for record in revision.members.iter() {
            let learned = self.learned.entry(record.tag).or_insert(Learned {
                warm_from: Time::MAX,
                settled: record.peak,
                peak: record.peak,
                peak_from: 0,
                active: record.active,
                weight: record.weight,
                seen_first: if news > 1 { last(news) + 1 } else { 0 },
                seen_last: if news > 1 { last(news) } else { u64::MAX },
            });
            if record.active && !learned.active || record.weight > learned.weight {
                learned.seen_last = last(news);
            }
            (learned.active, learned.weight) = (record.active, record.weight);
            if learned.warm_from == Time::MAX && record.active {
                learned.warm_from = now + rules.warming;
            }
            if record.peak > learned.peak {
                learned.peak = record.peak;
                learned.peak_from = if rules.raises_warm {
                    now + rules.warming
                } else {
                    now
                };
            }
            if now >= learned.peak_from {
                learned.settled = learned.peak;
            }
        }
        let due = |at: &Time| *at > now && *at != Time::MAX;
        let times = self.learned.values().flat_map(|l| [l.warm_from, l.peak_from]);
        self.stale_at = times.filter(due).min().unwrap_or(Time::MAX);
        let before = std::mem::replace(&mut self.candidates, Rc::new([]));
        self.candidates = revision.members.iter().map(|m| self.candidate(m, now)).collect();
        self.mark(&before, now);
    }

    fn candidate(&self, record: &Record, now: Time) -> Candidate {
        let learned = &self.learned[&record.tag];
        let state = match record.active {
            false => State::Draining,
            true if now < learned.warm_from => State::Warming,
            true => State::Active,
        };
        Candidate {
            tag: record.tag,
            node: record.node,
            weight: record.weight.min(learned.settled),
            peak: record.peak,
            state,
            first: record.first,
            last: record.last,
            seen_first: learned.seen_first,
            seen_last: learned.seen_last,
        }
    }

    /// Makes the head table and stamps the slots whose head changed or lost a member above it.
    fn mark(&mut self, before: &[Candidate], now: Time) {
        let mut table = vec![0; SLOTS];
        fill_heads(SEED, &self.candidates, &mut table);
        let began_to_drain = |m: &&Candidate| {
            m.state == State::Draining
                && before
                    .iter()
                    .any(|b| b.tag == m.tag && b.state != State::Draining)
        };
        let drained: Vec<_> = self.candidates.iter().filter(began_to_drain).copied().collect();
        for (slot, &offset) in table.iter().enumerate() {
            let head = name(&self.candidates, Some(offset as usize));
            let score = |tag, weight| lb_common::placement::score(SEED, slot as u32, tag, weight);
            let height = self
                .candidates
                .get(offset as usize)
                .map_or(0, |m| score(m.tag, m.weight));
            if head != self.heads[slot] {
                self.previous[slot] = std::mem::replace(&mut self.heads[slot], head);
                self.changed[slot] = now;
            } else if drained.iter().any(|m| score(m.tag, m.weight) > height) {
                self.changed[slot] = now;
            }
        }
    }
}

fn name(members: &[Candidate], offset: Option<usize>) -> Head {
    members.get(offset?).map(|m| (m.tag, m.node))
}
