//! How many flows there are, in all and by source: no client takes the room of all others, and no flood all descriptors.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

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
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
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

    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Full> {
        let source = source(client);
        let mut count = self.lock();
        if count.all >= self.most {
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

    #[test]
    fn a_source_has_its_share_and_others_theirs() {
        let census = Census::new(3, 2);
        let one = census.admit(address("192.0.2.1")).unwrap();
        let _two = census.admit(address("192.0.2.1")).unwrap();
        assert_eq!(census.admit(address("192.0.2.1")).unwrap_err(), Full::OfSource);
        let _other = census.admit(address("192.0.2.2")).unwrap();
        assert_eq!(census.admit(address("192.0.2.2")).unwrap_err(), Full::InAll);
        drop(one);
        let _again = census.admit(address("192.0.2.2")).unwrap();
        assert_eq!(census.all(), 3);
    }

    #[test]
    fn addresses_of_one_subnet_of_ipv6_are_one_source() {
        let census = Census::new(10, 1);
        let _one = census.admit(address("2001:db8::1")).unwrap();
        assert_eq!(census.admit(address("2001:db8::2")).unwrap_err(), Full::OfSource);
        assert!(census.admit(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_sources_that_have_gone() {
        let census = Census::new(10, 5);
        let seats: Vec<Seat> = (0..5)
            .map(|_| census.admit(address("192.0.2.1")).unwrap())
            .collect();
        assert!(seats[0].is_crowded());
        let other = census.admit(address("192.0.2.2")).unwrap();
        assert!(other.is_crowded());
        drop(seats);
        assert!(!other.is_crowded());
        drop(other);
        assert_eq!(census.all(), 0);
        assert!(census.lock().by_source.is_empty());
    }
}
