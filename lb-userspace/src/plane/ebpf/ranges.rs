//! Which parts of a flat table are taken: first fit, and rebuilt from what is found after a restart.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a part that was given up stays out of use: packets that looked it up before must have left the programs.
pub const GRACE: Duration = Duration::from_secs(1);

/// Free and resting parts of a table; the rest is taken.
#[derive(Debug)]
pub struct Ranges {
    /// Start and length of the free parts; neighbours are merged.
    free: BTreeMap<u32, u32>,
    /// Parts given up, with the time from which they may be used again.
    resting: Vec<(Instant, u32, u32)>,
}

impl Ranges {
    pub fn new(size: u32) -> Self {
        Self {
            free: if size > 0 {
                BTreeMap::from([(0, size)])
            } else {
                BTreeMap::new()
            },
            resting: Vec::new(),
        }
    }

    /// The first free part of `length` entries. What rests is used before its time only where nothing else is left,
    /// which is better than refusing.
    pub fn take(&mut self, length: u32, now: Instant) -> Option<u32> {
        self.wake(|until| until <= now);
        self.first_fit(length).or_else(|| {
            self.wake(|_| true);
            self.first_fit(length)
        })
    }

    /// Marks a part as taken that was found in use. False where it is not wholly free: two users claim it, or it lies
    /// outside.
    pub fn claim(&mut self, start: u32, length: u32) -> bool {
        let Some((&from, &free)) = self.free.range(..=start).next_back() else {
            return length == 0;
        };
        let (Some(end), free_end) = (start.checked_add(length), from + free) else {
            return false;
        };
        if end > free_end {
            return false;
        }
        self.free.remove(&from);
        if start > from {
            self.free.insert(from, start - from);
        }
        if free_end > end {
            self.free.insert(end, free_end - end);
        }
        true
    }

    /// Gives a part up; it can be taken again after [`GRACE`].
    pub fn give(&mut self, start: u32, length: u32, now: Instant) {
        if length > 0 {
            self.resting.push((now + GRACE, start, length));
        }
    }

    fn first_fit(&mut self, length: u32) -> Option<u32> {
        let start = self
            .free
            .iter()
            .find(|&(_, &free)| free >= length)
            .map(|(&start, _)| start)?;
        self.claim(start, length).then_some(start)
    }

    fn wake(&mut self, due: impl Fn(Instant) -> bool) {
        let resting = std::mem::take(&mut self.resting);
        let (awake, asleep): (Vec<_>, Vec<_>) = resting.into_iter().partition(|&(until, ..)| due(until));
        self.resting = asleep;
        for (_, start, length) in awake {
            self.release(start, length);
        }
    }

    fn release(&mut self, mut start: u32, mut length: u32) {
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            (start, length) = (before, free + length);
        }
        if let Some(after) = self.free.remove(&(start + length)) {
            length += after;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_given_up_rests_before_it_is_taken_again() {
        let now = Instant::now();
        let mut ranges = Ranges::new(8);
        assert_eq!(ranges.take(4, now), Some(0));
        ranges.give(0, 4, now);
        assert_eq!(ranges.take(2, now), Some(4));
        assert_eq!(ranges.take(4, now + GRACE), Some(0));
    }

    #[test]
    fn what_rests_is_better_than_nothing() {
        let now = Instant::now();
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.take(4, now), Some(0));
        ranges.give(0, 4, now);
        assert_eq!(ranges.take(4, now), Some(0));
        assert_eq!(ranges.take(1, now), None);
    }

    #[test]
    fn a_part_is_claimed_once() {
        let mut ranges = Ranges::new(16);
        assert!(ranges.claim(4, 4));
        assert!(!ranges.claim(6, 4));
        assert!(!ranges.claim(12, 5));
        assert!(ranges.claim(8, 8));
        assert_eq!(ranges.take(4, Instant::now()), Some(0));
        assert_eq!(ranges.take(1, Instant::now()), None);
    }

    proptest! {
        #[test]
        fn no_entry_has_two_users(steps in proptest::collection::vec((any::<bool>(), 1u32..20), 0..200)) {
            let mut now = Instant::now();
            let mut ranges = Ranges::new(200);
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (take, length) in steps {
                now += GRACE;
                if take {
                    if let Some(start) = ranges.take(length, now) {
                        prop_assert!(start + length <= 200);
                        for &(other, n) in &taken {
                            prop_assert!(start + length <= other || other + n <= start);
                        }
                        taken.push((start, length));
                    }
                } else if !taken.is_empty() {
                    let (start, length) = taken.swap_remove(length as usize % taken.len());
                    ranges.give(start, length, now);
                }
            }
            for (start, length) in taken.drain(..) {
                ranges.give(start, length, now);
            }
            prop_assert_eq!(ranges.take(200, now + GRACE), Some(0));
        }
    }
}
