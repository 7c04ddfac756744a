//! How many of one kind there are at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::source::stream::refusal::Refusal;

#[derive(Debug)]
pub struct Crowd<K: Eq + Hash> {
    most: usize,
    there: Mutex<HashMap<K, usize>>,
}

/// One of them, as long as it lives.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash> {
    crowd: Arc<Crowd<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    pub fn of(most: usize) -> Self {
        Self {
            most,
            there: Mutex::default(),
        }
    }

    pub fn enter(crowd: &Arc<Self>, key: K) -> Result<Counted<K>, Refusal> {
        let mut there = crowd.lock();
        let count = there.entry(key.clone()).or_default();
        if *count >= crowd.most {
            return Err(Refusal::Crowd);
        }
        *count += 1;
        drop(there);
        let crowd = Arc::clone(crowd);
        Ok(Counted { crowd, key })
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
