//! Whoever comes waits in a backlog, as nobody can be accepted.

use std::mem;
use std::time::{Duration, Instant};

/// Between two lines in the log.
const SAYING: Duration = Duration::from_secs(60);

/// One place where that happens, again and again.
#[derive(Debug, Default)]
pub struct Pause {
    is_on: bool,
    said: Option<Instant>,
}

impl Pause {
    /// Counted once until it is over, and said once a minute: a busy place may pause for each who comes.
    pub fn begin(&mut self, count: impl FnOnce(), say: impl FnOnce()) {
        if !mem::replace(&mut self.is_on, true) {
            count();
        }
        if self.said.is_none_or(|said| said.elapsed() > SAYING) {
            self.said = Some(Instant::now());
            say();
        }
    }

    pub const fn end(&mut self) {
        self.is_on = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_counted_and_the_log_is_spared() {
        let (mut pause, mut counted, mut said) = (Pause::default(), 0, 0);
        for _ in 0..3 {
            for _ in 0..2 {
                pause.begin(|| counted += 1, || said += 1);
            }
            pause.end();
        }
        assert_eq!((counted, said), (3, 1));
    }
}
