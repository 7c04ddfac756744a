//! How many queries may wait for upstreams, in all and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct Admission {
    total: usize,
    /// One client leaves room for others.
    per_client: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

/// A place in the queue; given back when dropped.
pub(super) struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    pub(super) fn new(total: usize, per_client: usize) -> Self {
        Self {
            total,
            per_client,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.total >= self.total {
            return None;
        }
        let count = waiting.clients.entry(client).or_default();
        if *count >= self.per_client {
            return None;
        }
        *count += 1;
        waiting.total += 1;
        Some(Permit {
            admission: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut waiting = self
            .admission
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.total -= 1;
        if let Entry::Occupied(mut count) = waiting.clients.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_all_places() {
        let admission = Arc::new(Admission::new(3, 2));
        let [a, b] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let first = admission.admit(a);
        let second = admission.admit(a);
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(a).is_none());
        let third = admission.admit(b);
        assert!(third.is_some());
        assert!(admission.admit(b).is_none());
        drop(first);
        assert!(admission.admit(b).is_some());
        drop((second, third));
        assert!(admission.waiting.lock().unwrap().clients.is_empty());
    }
}
