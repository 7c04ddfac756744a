//! How many flows there are, in all and by source: no client takes the room of all others, and no flood all descriptors, nor
//! all room of other frontends.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::present::Present;

/// So many flows that were never answered one table may have for each seat that it leaves free. Whatever others do there is a
/// seat then for one that has none; with a single table under flood they are a fifth of all.
const FOR_EACH_LEFT: usize = 4;

/// Of all workers and frontends of a node. Asked when a flow begins and when it ends, never for a datagram.
#[derive(Debug)]
pub struct Census {
    most: usize,
    most_of_source: usize,
    count: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    // Sources are of strangers' choosing: std's hasher is keyed at random, and made to withstand that.
    by_source: HashMap<IpAddr, usize, RandomState>,
}

/// A flow's right to be there, given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    census: Arc<Census>,
    source: IpAddr,
    /// In its table, while the flow was never answered.
    unanswered: Option<Present>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// In all, or for one more unanswered flow of the table.
    InAll,
    OfSource,
}

impl Census {
    pub fn new(most: usize, most_of_source: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_source,
            count: Mutex::default(),
        })
    }

    /// For a flow of a table that has so many unanswered ones; this is one of them until it is answered.
    pub fn admit(self: &Arc<Self>, client: IpAddr, unanswered: &Arc<AtomicU64>) -> Result<Seat, Full> {
        let source = source(client);
        let mut count = self.lock();
        let left = self.most.checked_sub(count.all + 1).ok_or(Full::InAll)?;
        if unanswered.load(Relaxed) > left.saturating_mul(FOR_EACH_LEFT) as u64 {
            return Err(Full::InAll);
        }
        let of_source = count.by_source.entry(source).or_default();
        if *of_source >= self.most_of_source {
            // With a bound of 0 a source that has no flow is refused, too, and nothing is to be remembered of it.
            if *of_source == 0 {
                count.by_source.remove(&source);
            }
            return Err(Full::OfSource);
        }
        *of_source += 1;
        count.all += 1;
        Ok(Seat {
            census: Arc::clone(self),
            source,
            unanswered: Some(Present::of(unanswered)),
        })
    }

    pub fn all(&self) -> usize {
        self.lock().all
    }

    /// Nothing that can panic is done under the lock.
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub fn note_answered(&mut self) {
        self.unanswered = None;
    }

    pub fn is_answered(&self) -> bool {
        self.unanswered.is_none()
    }

    /// More than half of what there may be is there, in all or of this source: flows that are silent go sooner.
    pub fn is_crowded(&self) -> bool {
        let census = &self.census;
        let count = census.lock();
        let of_source = count.by_source.get(&self.source).copied().unwrap_or(0);
        count.all > census.most / 2 || of_source > census.most_of_source / 2
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut count = self.census.lock();
        count.all = count.all.saturating_sub(1);
        let left = count.by_source.get_mut(&self.source).map(|of_source| {
            *of_source = of_source.saturating_sub(1);
            *of_source
        });
        if left == Some(0) {
            count.by_source.remove(&self.source);
        }
    }
}

/// What counts as one source: an IPv4 address; of IPv6 a /64, since whoever has one address there has them all.
fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// For a table of its own.
    fn admit(census: &Arc<Census>, client: &str) -> Result<Seat, Full> {
        census.admit(address(client), &Arc::default())
    }

    #[test]
    fn a_source_has_its_share_and_others_theirs() {
        let census = Census::new(3, 2);
        let one = admit(&census, "192.0.2.1").unwrap();
        let _two = admit(&census, "192.0.2.1").unwrap();
        assert_eq!(admit(&census, "192.0.2.1").unwrap_err(), Full::OfSource);
        let _other = admit(&census, "192.0.2.2").unwrap();
        assert_eq!(admit(&census, "192.0.2.2").unwrap_err(), Full::InAll);
        drop(one);
        let _again = admit(&census, "192.0.2.2").unwrap();
        assert_eq!(census.all(), 3);
    }

    #[test]
    fn unanswered_flows_of_one_table_leave_room_for_others() {
        let census = Census::new(100, 100);
        let fill = |table: &Arc<AtomicU64>| -> Vec<Seat> {
            std::iter::from_fn(|| census.admit(address("192.0.2.1"), table).ok()).collect()
        };
        let (one, other, third) = (Arc::default(), Arc::default(), Arc::default());
        let mut flood = fill(&one);
        assert_eq!(flood.len(), 80);
        assert_eq!(fill(&other).len(), 16);
        // Those that were answered may have all.
        flood.iter_mut().for_each(Seat::note_answered);
        assert_eq!((one.load(Relaxed), census.all()), (0, 80));
        let mut more = fill(&one);
        while let Ok(mut seat) = census.admit(address("192.0.2.2"), &other) {
            seat.note_answered();
            more.push(seat);
        }
        assert_eq!(census.all(), 100);
        assert_eq!(
            census.admit(address("192.0.2.2"), &third).unwrap_err(),
            Full::InAll
        );
    }

    #[test]
    fn addresses_of_one_subnet_of_ipv6_are_one_source() {
        let census = Census::new(10, 1);
        let _one = admit(&census, "2001:db8::1").unwrap();
        assert_eq!(admit(&census, "2001:db8::2").unwrap_err(), Full::OfSource);
        assert!(admit(&census, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_sources_that_have_gone() {
        let census = Census::new(10, 5);
        let seats: Vec<Seat> = (0..5).map(|_| admit(&census, "192.0.2.1").unwrap()).collect();
        assert!(seats[0].is_crowded());
        let other = admit(&census, "192.0.2.2").unwrap();
        assert!(other.is_crowded());
        drop(seats);
        assert!(!other.is_crowded());
        drop(other);
        assert_eq!(census.all(), 0);
        assert!(census.lock().by_source.is_empty());
    }
}
