//! Who has asked for the first time a moment ago. A container asks for names as soon as it runs; its engine tells of it a few
//! milliseconds later.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long somebody of whom nothing is known is new.
const NEW: Duration = Duration::from_secs(1);
/// How many are remembered. Who was forgotten and still is unknown waits once more.
const MOST: usize = 4096;

/// When those of whom nothing is known asked first.
#[derive(Default)]
pub struct Newcomers(Mutex<HashMap<IpAddr, Instant>>);

impl Newcomers {
    /// Whether this client, of whom nothing is known, is new.
    pub fn is_new(&self, client: IpAddr, now: Instant) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() >= MOST && !first.contains_key(&client) {
            first.retain(|_, first| now.duration_since(*first) < NEW);
            // More than that are new at once only where somebody makes addresses up.
            if first.len() >= MOST {
                return false;
            }
        }
        now.duration_since(*first.entry(client).or_insert(now)) < NEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_new_for_a_second_and_made_up_ones_fill_no_memory() {
        let (newcomers, start) = (Newcomers::default(), Instant::now());
        let client = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(newcomers.is_new(client(0), start));
        assert!(newcomers.is_new(client(0), start + NEW / 2));
        assert!(!newcomers.is_new(client(0), start + NEW));
        for number in 1..MOST as u32 {
            assert!(newcomers.is_new(client(number), start + NEW));
        }
        assert!(newcomers.is_new(client(1 << 20), start + NEW));
        assert!(!newcomers.is_new(client(1 << 21), start + NEW));
        assert!(newcomers.is_new(client(1 << 21), start + NEW * 2));
    }
}
