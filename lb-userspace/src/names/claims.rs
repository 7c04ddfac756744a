//! A map with several values under a key, for pictures that are swapped whole.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

/// A change copies the shards it touches and no others: ten thousand services have some hundred thousand names.
const SHARDS: usize = 1024;

/// Keys are configured, never a client's: no seed is needed.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Shard<K, V> = HashMap<K, Vec<V>, Hasher>;

/// Copies share what neither has changed.
#[derive(Clone)]
pub struct Claims<K, V> {
    shards: Box<[Arc<Shard<K, V>>]>,
}

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        let empty = Arc::default();
        Self {
            shards: vec![empty; SHARDS].into(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Claims<K, V> {
    /// In the order they were added.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> &[V]
    where
        K: Borrow<Q>,
    {
        self.shards[place(key)].get(key).map_or(&[], Vec::as_slice)
    }

    pub fn add(&mut self, key: K, value: V) {
        let shard = Arc::make_mut(&mut self.shards[place(&key)]);
        shard.entry(key).or_default().push(value);
    }

    /// Changes the values of a key; a key without values is forgotten.
    pub fn change(&mut self, key: &K, change: impl FnOnce(&mut Vec<V>)) {
        let shard = Arc::make_mut(&mut self.shards[place(key)]);
        let values = shard.entry(key.clone()).or_default();
        change(values);
        if values.is_empty() {
            shard.remove(key);
        }
    }

    /// Takes out the first value that is meant.
    pub fn remove(&mut self, key: &K, is_meant: impl Fn(&V) -> bool) {
        self.change(key, |values| {
            if let Some(at) = values.iter().position(is_meant) {
                values.remove(at);
            }
        });
    }

    /// How many keys there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }
}

fn place<Q: Hash + ?Sized>(key: &Q) -> usize {
    // The tables within use the low bits and the highest.
    (Hasher::default().hash_one(key) >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_neither_has_changed() {
        let mut first = Claims::<Arc<str>, u32>::default();
        for number in 0..10_000 {
            first.add(number.to_string().into(), number);
        }
        let mut second = first.clone();
        second.add("7".into(), 70);
        second.remove(&"8".into(), |value| *value == 8);
        assert_eq!((first.get("7"), second.get("7")), (&[7][..], &[7, 70][..]));
        assert_eq!((first.get("8"), second.get("8")), (&[8][..], &[][..]));
        assert_eq!((first.len(), second.len()), (10_000, 9_999));
        let shared = first.shards.iter().zip(&second.shards);
        let copied = shared.filter(|(first, second)| !Arc::ptr_eq(first, second));
        assert_eq!(copied.count(), 2);
    }
}
