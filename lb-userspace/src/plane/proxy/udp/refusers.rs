//! Who is not asked for a while.

use std::time::{Duration, Instant};

/// Members that refused something lately: new flows go to others, if there are any.
#[derive(Debug, Default)]
pub struct Refusers(Vec<(u64, Instant)>);

impl Refusers {
    /// After that a member is asked again: it may have been about to start.
    const FOR: Duration = Duration::from_secs(2);

    pub fn note(&mut self, tag: u64, now: Instant) {
        self.0.retain(|(other, _)| *other != tag);
        self.0.push((tag, now));
    }

    pub fn tags(&mut self, now: Instant) -> Vec<u64> {
        self.0
            .retain(|(_, since)| now.saturating_duration_since(*since) < Self::FOR);
        self.0.iter().map(|(tag, _)| *tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_refused_is_asked_again_after_a_while() {
        let (mut refusers, now) = (Refusers::default(), Instant::now());
        refusers.note(7, now);
        refusers.note(8, now + Duration::from_secs(1));
        assert_eq!(refusers.tags(now + Duration::from_secs(1)), [7, 8]);
        assert_eq!(refusers.tags(now + Duration::from_secs(2)), [8]);
        refusers.note(8, now + Duration::from_secs(2));
        assert_eq!(refusers.tags(now + Duration::from_secs(3)), [8]);
    }
}
