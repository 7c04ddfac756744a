//! Who else can hold a flow of a slot.

use super::score::{Draws, Rank};
use super::{Candidate, State, runner_up};
use crate::table::{CHAIN, ChainSlot, NO_MEMBER};

/// Entries of a slot's ranking that are worked through at a time. Chains rarely need more.
const BATCH: usize = 16;

/// Slots ranked together; their rankings are on the stack.
const STRIDE: usize = 16;

/// Tags of the nodes that can hold a flow of `slot`, likeliest first; 0 ends the list.
///
/// A member that is no longer (or not yet) head holds flows if it was head once. It never was if two others were active
/// all its life and outranked it, two because one may have been passed over: it deflected a connection, was suspected,
/// or its change had not reached the node that chose. So a node is listed unless each of its members has two such
/// *excluders*, on two different nodes: a whole node is drained or suspected at once, which passes over all its members
/// but is one deviation.
///
/// - The member itself counts at the highest weight it ever had: it may have its flows from then.
/// - An excluder counts at its present weight. It excludes only those who came after its last activation and its last
///   change of weight, so this is the weight it had all their lives; a higher one would exclude members that were head.
/// - Among members that still warm, one that warms excludes those who came after it, as they warm longer. Otherwise a
///   service that grows by many at once would have no room for those who hold its flows.
/// - Unknown stamps exclude nobody.
///
/// Who would be excluded by what this node's agent has seen itself comes after all others: no other node can vouch for
/// that order, so it may decide who is asked last, and falls off the end of a full list, but nothing else.
pub fn chain(seed: u64, slot: u32, members: &[Candidate]) -> [u16; CHAIN] {
    let mut search = Search::new(count_nodes(members));
    search.go_on(seed, slot, members, None);
    search.finish()
}

/// [`chain`] and [`runner_up`] of slots 0, 1, 2 and so on; [`ChainSlot::changed`] is left as it is.
pub fn fill_chains(seed: u64, members: &[Candidate], slots: &mut [ChainSlot]) {
    let wanted = count_nodes(members);
    let mut slot = 0;
    for slots in slots.chunks_mut(STRIDE) {
        let mut rankings = [Ranking::EMPTY; STRIDE];
        for (offset, member) in members.iter().enumerate() {
            let draws = Draws::new(seed, member.tag);
            for (at, ranking) in rankings.iter_mut().enumerate() {
                ranking.rank(draws, slot + at as u32, offset, member, None);
            }
        }
        for (entry, ranking) in slots.iter_mut().zip(&rankings) {
            let mut search = Search::new(wanted);
            if let Some(below) = search.walk(ranking, members) {
                search.go_on(seed, slot, members, Some(below));
            }
            entry.nodes = search.finish();
            let next = match ranking.second_active() {
                None if ranking.is_full() => runner_up(seed, slot, members),
                known => known,
            };
            entry.next = next.map_or(NO_MEMBER, |next| next as u16);
            slot += 1;
        }
    }
}

/// Puts those nodes of a chain last that `suspected` names; besides that, all keep their order. None is left out: it may be
/// alive, and whoever is asked before it only passes the packet on.
pub fn put_last(nodes: &mut [u16; CHAIN], suspected: impl Fn(u16) -> bool) {
    let (chain, mut filled) = (*nodes, 0);
    for last in [false, true] {
        for &node in chain.iter().take_while(|&&node| node != 0) {
            if suspected(node) == last {
                nodes[filled] = node;
                filled += 1;
            }
        }
    }
}

/// How many nodes a chain of these members can have.
fn count_nodes(members: &[Candidate]) -> usize {
    let mut nodes = Nodes::default();
    for member in members {
        if nodes.len < CHAIN {
            nodes.add(member.node);
        }
    }
    nodes.len
}

/// The nodes found so far.
#[derive(Default)]
struct Nodes {
    list: [u16; CHAIN],
    len: usize,
}

impl Nodes {
    fn entries(&self) -> &[u16] {
        &self.list[..self.len]
    }

    fn contains(&self, node: u16) -> bool {
        self.entries().contains(&node)
    }

    fn add(&mut self, node: u16) {
        if !self.contains(node) {
            self.list[self.len] = node;
            self.len += 1;
        }
    }
}

/// Members passed so far, as far as they decide whom they exclude: the earliest `last` of all, and the earliest of those
/// on other nodes.
struct Elders {
    first: u64,
    node: u16,
    second: u64,
}

impl Elders {
    const NONE: Self = Self {
        first: u64::MAX,
        node: 0,
        second: u64::MAX,
    };

    fn add(&mut self, node: u16, last: u64) {
        if node == self.node {
            self.first = self.first.min(last);
        } else if last < self.first {
            self.second = self.first;
            (self.first, self.node) = (last, node);
        } else {
            self.second = self.second.min(last);
        }
    }
}

/// The excluders passed so far, by one of the two orders.
struct Excluders {
    active: Elders,
    /// Those that are active, or warm.
    coming: Elders,
}

impl Excluders {
    const NONE: Self = Self {
        active: Elders::NONE,
        coming: Elders::NONE,
    };

    fn add(&mut self, member: &Candidate, last: u64) {
        self.coming.add(member.node, last);
        if member.state == State::Active {
            self.active.add(member.node, last);
        }
    }

    /// Who was activated later than this is excluded by two.
    fn bound(&self, state: State) -> u64 {
        match state {
            State::Warming => self.coming.second,
            State::Active | State::Draining => self.active.second,
        }
    }

    fn exclude(&self, state: State, first: u64) -> bool {
        self.bound(state) < first
    }

    /// Whether a member would make a difference.
    fn lack(&self, state: State, last: u64) -> bool {
        state != State::Draining && last < self.bound(state)
    }
}

/// A walk down the ranking of a slot.
struct Search {
    likely: Nodes,
    /// Nodes found only through members that are excluded by what was seen here; collected as long as there is room.
    unlikely: Nodes,
    excluders: Excluders,
    seen: Excluders,
    /// Nodes after which there are no others.
    wanted: usize,
}

impl Search {
    fn new(wanted: usize) -> Self {
        Self {
            likely: Nodes::default(),
            unlikely: Nodes::default(),
            excluders: Excluders::NONE,
            seen: Excluders::NONE,
            wanted,
        }
    }

    /// Where the walk must go on, if the ranking went no further and nodes are missing.
    fn walk(&mut self, ranking: &Ranking, members: &[Candidate]) -> Option<Place> {
        for entry in ranking.entries() {
            let member = &members[entry.offset];
            if entry.claims && !self.is_excluded(member) {
                if !self.is_unlikely(member) {
                    self.likely.add(member.node);
                } else if self.has_room_for(member.node) {
                    self.unlikely.add(member.node);
                }
                if self.likely.len == self.wanted {
                    return None;
                }
            }
            if entry.excludes {
                self.excluders.add(member, member.last);
                self.seen.add(member, member.seen_last);
            }
        }
        let last = ranking.entries().last()?;
        ranking.is_full().then(|| last.place())
    }

    fn go_on(&mut self, seed: u64, slot: u32, members: &[Candidate], mut below: Option<Place>) {
        loop {
            let mut ranking = Ranking::EMPTY;
            for (offset, member) in members.iter().enumerate().filter(|(_, m)| self.can_matter(m)) {
                ranking.rank(Draws::new(seed, member.tag), slot, offset, member, below);
            }
            below = self.walk(&ranking, members);
            if below.is_none() {
                return;
            }
        }
    }

    /// Whether a member can still be listed, or exclude others. Who cannot now will not later.
    fn can_matter(&self, member: &Candidate) -> bool {
        let likely = !self.is_unlikely(member) && !self.likely.contains(member.node);
        let listable = !self.is_excluded(member) && (likely || self.has_room_for(member.node));
        listable
            || self.excluders.lack(member.state, member.last)
            || self.seen.lack(member.state, member.seen_last)
    }

    fn is_excluded(&self, member: &Candidate) -> bool {
        self.excluders.exclude(member.state, member.first)
    }

    fn is_unlikely(&self, member: &Candidate) -> bool {
        self.seen.exclude(member.state, member.seen_first)
    }

    /// Whether an unlikely node would be among those listed. Nodes found later only come before it.
    fn has_room_for(&self, node: u16) -> bool {
        let more = self
            .unlikely
            .entries()
            .iter()
            .filter(|&&node| !self.likely.contains(node));
        !self.likely.contains(node)
            && !self.unlikely.contains(node)
            && self.likely.len + more.count() < self.wanted
    }

    /// The likely nodes, then the others that fit.
    fn finish(mut self) -> [u16; CHAIN] {
        for &node in self.unlikely.entries() {
            if self.likely.len < self.wanted {
                self.likely.add(node);
            }
        }
        self.likely.list
    }
}

/// One place in the ranking of a slot. A member whose weight was higher once has two: where it may have been head, and
/// where it outranks others now.
#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    offset: usize,
    /// The member may hold flows from here.
    claims: bool,
    /// It stands here now, and counts as an excluder of those below.
    excludes: bool,
    /// It is active besides.
    active: bool,
}

/// Total order of the entries of a slot, a member's claim before its present place.
type Place = (Rank, bool);

impl Entry {
    fn place(&self) -> Place {
        (self.rank, self.claims)
    }
}

/// The highest entries of a slot, best first.
#[derive(Clone, Copy)]
struct Ranking {
    entries: [Entry; BATCH],
    len: usize,
}

impl Ranking {
    const EMPTY: Self = Self {
        entries: [Entry {
            rank: Rank { score: 0, tag: 0 },
            offset: 0,
            claims: false,
            excludes: false,
            active: false,
        }; BATCH],
        len: 0,
    };

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    fn is_full(&self) -> bool {
        self.len == BATCH
    }

    /// Enters a member for `slot` where it ranks below `below`.
    #[inline]
    fn rank(&mut self, draws: Draws, slot: u32, offset: usize, member: &Candidate, below: Option<Place>) {
        let (active, excludes) = (member.state == State::Active, member.state != State::Draining);
        let peak = member.peak.max(member.weight);
        let mut enter = |weight, claims, present| {
            let score = draws.best(slot, weight);
            if self.len == BATCH && score < self.entries[BATCH - 1].rank.score {
                return;
            }
            let entry = Entry {
                rank: Rank {
                    score,
                    tag: member.tag,
                },
                offset,
                claims,
                excludes: present && excludes,
                active: present && active,
            };
            if below.is_none_or(|below| entry.place() < below) {
                self.insert(entry);
            }
        };
        enter(peak, true, peak == member.weight);
        if excludes && peak != member.weight {
            enter(member.weight, false, true);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let mut at = self.len;
        if at == BATCH {
            at -= 1;
            if self.entries[at].place() > entry.place() {
                return;
            }
        } else {
            self.len += 1;
        }
        while at > 0 && self.entries[at - 1].place() < entry.place() {
            self.entries[at] = self.entries[at - 1];
            at -= 1;
        }
        self.entries[at] = entry;
    }

    fn second_active(&self) -> Option<usize> {
        self.entries()
            .iter()
            .filter(|entry| entry.active)
            .nth(1)
            .map(|entry| entry.offset)
    }
}

#[cfg(test)]
mod tests;
