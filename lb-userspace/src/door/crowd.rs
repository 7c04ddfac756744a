//! How many of one kind there are at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Debug)]
pub struct Crowd<K: Eq + Hash> {
    there: Mutex<HashMap<K, usize>>,
}

/// One of them, as long as it lives.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash> {
    crowd: Arc<Crowd<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// Nothing where there are `most` already.
    pub fn enter(crowd: &Arc<Self>, key: K, most: usize) -> Option<Counted<K>> {
        let mut there = crowd.lock();
        let count = there.get(&key).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        there.insert(key.clone(), count + 1);
        drop(there);
        let crowd = Arc::clone(crowd);
        Some(Counted { crowd, key })
    }
}

impl<K: Eq + Hash> Default for Crowd<K> {
    fn default() -> Self {
        Self {
            there: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Crowd<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.there.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut there = self.crowd.lock();
        if let Some(count) = there.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                there.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room() {
        let crowd = Arc::new(Crowd::default());
        let first = Crowd::enter(&crowd, 1, 2).unwrap();
        let _second = Crowd::enter(&crowd, 1, 2).unwrap();
        assert!(Crowd::enter(&crowd, 1, 2).is_none());
        assert!(Crowd::enter(&crowd, 2, 2).is_some());
        drop(first);
        assert!(Crowd::enter(&crowd, 1, 2).is_some());
    }
}
