//! One line in the log for each address and minute, whoever knocks however often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);
/// Addresses that are remembered; while there are more, they are not told of.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashMap<IpAddr, Instant>>);

impl Complaints {
    /// Whether it is time to say something about this address.
    pub fn due(&self, address: IpAddr, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if said.len() >= MOST {
            said.retain(|_, then| now.saturating_duration_since(*then) < PAUSE);
        }
        let due = said.get(&address).map_or(said.len() < MOST, |then| {
            now.saturating_duration_since(*then) >= PAUSE
        });
        if due {
            said.insert(address, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_of_once_a_minute() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        assert!(complaints.due(address(1), start));
        assert!(!complaints.due(address(1), start + PAUSE / 2));
        assert!(complaints.due(address(2), start + PAUSE / 2));
        assert!(complaints.due(address(1), start + PAUSE));
    }

    #[test]
    fn a_crowd_does_not_fill_the_memory_or_the_log() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let due = (0..5000u16).filter(|n| complaints.due([10, 0, (n >> 8) as u8, *n as u8].into(), start));
        assert_eq!(due.count(), MOST);
        assert!(complaints.due([192, 0, 2, 1].into(), start + PAUSE));
    }
}
