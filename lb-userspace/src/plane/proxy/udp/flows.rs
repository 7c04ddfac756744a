//! Flows of one socket: who talks to whom, and since when nobody said anything.

use std::any::Any;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hashbrown::HashTable;

use super::Bounds;
use super::census::{Census, Full, Seat};
use super::kernel;
use super::outbox::Envelope;
use super::towards::Towards;

/// What datagrams of one flow have in common. The address asked is a part: a wildcard socket has many, and answers come from
/// the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub client: SocketAddr,
    pub asked: IpAddr,
}

/// A flow of a table. Of one that has ended the number is not used again: its place, and which of all of the table's flows it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// A client and its member.
pub struct Flow<K = Key> {
    /// What it is found by.
    pub key: K,
    /// The member that has it.
    pub tag: u64,
    /// Of the front by which the member was last found to be in order.
    pub generation: u64,
    pub towards: Towards,
    pub seen: Instant,
    pub ceilings: Ceilings,
    /// How often anything was sent to the member, up to two.
    sent: u8,
    /// The only datagram so far, while it is not answered: another member can still have it if this one refuses it.
    only: Option<Box<[u8]>>,
    /// Of the latest datagram: an ICMP error quotes it.
    pub length: u16,
    /// What the core holds as long as the flow is with its member.
    _held: Option<Box<dyn Any>>,
    seat: Seat,
}

/// How large datagrams may be to go together as a super-packet, by direction: what does not fit the device is refused.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    pub to_task: u16,
    pub to_client: u16,
}

/// A longer one is not kept for another member.
const KEPT: usize = 1500;

/// All of them.
pub struct Flows<K = Key> {
    /// Places, by key.
    index: HashTable<u32>,
    // Keys are of strangers' choosing: std's hasher is keyed at random, and made to withstand that.
    hasher: RandomState,
    places: Vec<Place<K>>,
    free: Vec<u32>,
    /// Flows that there have been.
    begun: u32,
    /// Flows that were not answered when they were last looked at, by age; some are gone.
    unanswered: VecDeque<FlowId>,
    /// How many are unanswered now, by their seats.
    waiting: Arc<AtomicU64>,
}

struct Place<K> {
    /// Which flow has it, or had it last.
    taken: u32,
    flow: Option<Flow<K>>,
}

impl<K> Flow<K> {
    pub fn new(
        key: K,
        (tag, generation): (u64, u64),
        towards: Towards,
        held: Option<Box<dyn Any>>,
        seat: Seat,
        now: Instant,
    ) -> Self {
        let ceiling = if kernel::cuts() { u16::MAX } else { 0 };
        Self {
            key,
            tag,
            generation,
            towards,
            seen: now,
            ceilings: Ceilings {
                to_task: ceiling,
                to_client: ceiling,
            },
            sent: 0,
            only: None,
            length: 0,
            _held: held,
            seat,
        }
    }

    /// Notes that a datagram, or several, were sent to the member.
    pub fn note_sent(&mut self, datagram: &[u8], is_single: bool) {
        self.length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
        let is_only = is_single && self.sent == 0 && !self.is_answered() && datagram.len() <= KEPT;
        self.only = is_only.then(|| datagram.into());
        self.sent = self.sent.saturating_add(if is_single { 1 } else { 2 });
    }

    /// Something was sent to the member.
    pub fn was_used(&self) -> bool {
        self.sent > 0
    }

    pub fn note_answered(&mut self, now: Instant) {
        self.seat.note_answered();
        self.only = None;
        self.seen = now;
    }

    /// The member has answered. Flows whose member never did make room for others.
    pub fn is_answered(&self) -> bool {
        self.seat.is_answered()
    }

    /// A refusal would have come by now.
    pub fn forget_only(&mut self) {
        self.only = None;
    }

    /// It was silent for too long: for `idle`, or as the bounds say; for less where there are many.
    pub fn is_over(&self, idle: Option<Duration>, bounds: &Bounds, now: Instant) -> bool {
        let idle = idle.unwrap_or(bounds.idle);
        let silent = now.saturating_duration_since(self.seen);
        silent >= idle || (silent >= bounds.hurried && self.seat.is_crowded())
    }

    /// The only datagram that was sent, if it was not answered.
    pub fn take_only(&mut self) -> Option<Box<[u8]>> {
        self.only.take()
    }
}

impl Flow {
    /// Of answers to its client.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            to: self.key.client,
            from: self.key.asked,
        }
    }
}

impl<K> Default for Flows<K> {
    fn default() -> Self {
        Self {
            index: HashTable::default(),
            hasher: RandomState::default(),
            places: Vec::new(),
            free: Vec::new(),
            begun: 0,
            unanswered: VecDeque::new(),
            waiting: Arc::default(),
        }
    }
}

impl<K: Copy + Eq + Hash> Flows<K> {
    pub fn find(&self, key: &K) -> Option<FlowId> {
        let is_it = |place: &u32| self.at(*place).is_some_and(|flow| flow.key == *key);
        let place = *self.index.find(self.hasher.hash_one(key), is_it)?;
        Some(FlowId::new(place, self.places[place as usize].taken))
    }

    pub fn get(&self, id: FlowId) -> Option<&Flow<K>> {
        let place = self.places.get(id.place() as usize)?;
        place.flow.as_ref().filter(|_| place.taken == id.taken())
    }

    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<K>> {
        let place = self.places.get_mut(id.place() as usize)?;
        place.flow.as_mut().filter(|_| place.taken == id.taken())
    }

    /// There must be none of that key.
    pub fn insert(&mut self, flow: Flow<K>) -> FlowId {
        let hash = self.hasher.hash_one(flow.key);
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { taken: 0, flow: None });
            // There are never as many flows as that: each has a descriptor.
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[at as usize];
        self.begun = self.begun.wrapping_add(1);
        place.taken = self.begun;
        place.flow = Some(flow);
        let id = FlowId::new(at, place.taken);
        let (hasher, places) = (&self.hasher, &self.places);
        self.index.insert_unique(hash, at, |place| {
            let flow = places[*place as usize].flow.as_ref();
            flow.map_or(0, |flow| hasher.hash_one(flow.key))
        });
        self.unanswered.push_back(id);
        id
    }

    /// Ends a flow.
    pub fn remove(&mut self, id: FlowId) -> Option<Flow<K>> {
        let key = self.get(id)?.key;
        let hash = self.hasher.hash_one(key);
        if let Ok(found) = self.index.find_entry(hash, |place| *place == id.place()) {
            found.remove();
        }
        self.free.push(id.place());
        self.places[id.place() as usize].flow.take()
    }

    /// A seat for another flow, as the census gives them to this table.
    pub fn seat(&self, census: &Arc<Census>, client: IpAddr) -> Result<Seat, Full> {
        census.admit(client, &self.waiting)
    }

    /// Ends the oldest flow that was never answered, if there is one.
    pub fn evict(&mut self) -> Option<Flow<K>> {
        while let Some(id) = self.unanswered.pop_front() {
            if self.get(id).is_some_and(|flow| !flow.is_answered()) {
                return self.remove(id);
            }
        }
        None
    }

    /// Ends those flows that `ends` says so of.
    pub fn sweep(&mut self, mut ends: impl FnMut(&mut Flow<K>) -> bool) {
        for place in 0..self.places.len() {
            let Place { taken, flow } = &mut self.places[place];
            let id = FlowId::new(place as u32, *taken);
            if flow.as_mut().is_some_and(&mut ends) {
                self.remove(id);
            }
        }
        let mut unanswered = std::mem::take(&mut self.unanswered);
        unanswered.retain(|id| self.get(*id).is_some_and(|flow| !flow.is_answered()));
        self.unanswered = unanswered;
        if self.is_empty() {
            // After a flood: as if nothing had been. But other nodes' answers may still come by the numbers that were.
            *self = Self {
                hasher: self.hasher.clone(),
                begun: self.begun,
                ..Self::default()
            };
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn at(&self, place: u32) -> Option<&Flow<K>> {
        self.places.get(place as usize)?.flow.as_ref()
    }
}

impl FlowId {
    fn new(place: u32, taken: u32) -> Self {
        Self(u64::from(taken) << 32 | u64::from(place))
    }

    fn place(self) -> u32 {
        self.0 as u32
    }

    fn taken(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::ways::Ways;

    fn key(port: u16) -> Key {
        Key {
            client: ([192, 0, 2, 1], port).into(),
            asked: [192, 0, 2, 9].into(),
        }
    }

    fn flow(port: u16) -> Flow {
        let seat = Census::new(1, 1)
            .admit([192, 0, 2, 1].into(), &Arc::default())
            .unwrap();
        Flow::new(
            key(port),
            (7, 1),
            Towards::task(&Ways::default(), ([127, 0, 0, 1], 9).into(), key(port).client).unwrap(),
            None,
            seat,
            Instant::now(),
        )
    }

    #[test]
    fn a_flow_is_found_by_what_its_datagrams_have_in_common() {
        let mut flows = Flows::default();
        let ids: Vec<FlowId> = (1..100).map(|port| flows.insert(flow(port))).collect();
        assert_eq!(flows.len(), 99);
        for (port, id) in (1..).zip(&ids) {
            assert_eq!(flows.find(&key(port)), Some(*id));
        }
        let other = Key {
            asked: [192, 0, 2, 10].into(),
            ..key(1)
        };
        assert_eq!(flows.find(&other), None);
        assert!(flows.remove(ids[0]).is_some());
        assert_eq!(flows.find(&key(1)), None);
        assert!(flows.remove(ids[0]).is_none());
    }

    #[test]
    fn the_number_of_a_flow_that_ended_leads_to_no_other() {
        let mut flows = Flows::default();
        let _stays = flows.insert(flow(1));
        let before = flows.insert(flow(2));
        flows.remove(before);
        let after = flows.insert(flow(3));
        assert_eq!(before.place(), after.place());
        assert!(flows.get(before).is_none());
        assert_eq!(flows.get(after).unwrap().key, key(3));
    }

    #[test]
    fn the_oldest_that_was_never_answered_makes_room() {
        let mut flows = Flows::default();
        let ids: Vec<FlowId> = (1..5).map(|port| flows.insert(flow(port))).collect();
        flows.get_mut(ids[0]).unwrap().note_answered(Instant::now());
        flows.remove(ids[1]);
        assert_eq!(flows.evict().unwrap().key, key(3));
        assert!(flows.find(&key(1)).is_some() && flows.find(&key(3)).is_none());
        assert!(flows.evict().is_some());
        assert!(flows.evict().is_none());
        assert_eq!(flows.len(), 1);
    }

    #[test]
    fn what_a_sweep_ends_is_gone() {
        let mut flows = Flows::default();
        for port in 1..9 {
            flows.insert(flow(port));
        }
        flows.sweep(|flow| flow.key.client.port() % 2 == 0);
        assert_eq!(flows.len(), 4);
        assert_eq!(flows.unanswered.len(), 4);
        assert!(flows.find(&key(2)).is_none() && flows.find(&key(3)).is_some());
        let before = flows.find(&key(3)).unwrap();
        flows.sweep(|flow| flow.seen.elapsed() < Duration::from_secs(60));
        assert!(flows.is_empty() && flows.places.is_empty());
        // An answer that comes late is not another client's.
        for port in 1..9 {
            flows.insert(flow(port));
        }
        assert!(flows.get(before).is_none());
    }

    #[test]
    fn only_a_datagram_that_was_the_first_is_kept_for_another_member() {
        let mut flow = flow(1);
        flow.note_sent(b"one", true);
        assert_eq!(flow.take_only().as_deref(), Some(&b"one"[..]));
        flow.note_sent(b"two", true);
        assert_eq!(flow.take_only(), None);
        let mut flow = super::tests::flow(2);
        flow.note_sent(b"several", false);
        assert_eq!(flow.take_only(), None);
        let mut flow = super::tests::flow(3);
        flow.note_sent(b"one", true);
        flow.note_answered(Instant::now());
        assert_eq!(flow.take_only(), None);
    }
}
