//! How many probes are under way at one time, and that those nobody answers do not hold the others up.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Probes that may still be answered soon, whatever the number of backends: each holds a socket for every address.
const QUICK: usize = 128;
/// Probes that wait. Together they stay below the 1024 open files that a process is commonly allowed.
const SLOW: usize = 256;
/// A probe without an answer by then waits among the slow ones.
const SOON: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Lanes {
    quick: Semaphore,
    slow: Semaphore,
}

impl Lanes {
    pub fn new() -> Self {
        Self {
            quick: Semaphore::new(QUICK),
            slow: Semaphore::new(SLOW),
        }
    }

    /// Lets `probe` run when it is its turn. One of a backend that `failed` last time queues with its like: thousands that
    /// hang delay each other, and no one else.
    pub async fn run<P: Future>(&self, failed: bool, probe: P) -> P::Output {
        // Neither is ever closed: every check ends before the lanes do.
        if failed {
            let _slow = self.slow.acquire().await;
            return probe.await;
        }
        let quick = self.quick.acquire().await;
        let mut probe = pin!(probe);
        tokio::select! {
            result = &mut probe => return result,
            () = sleep(SOON) => {}
        }
        // While the slow lane is full it goes on here.
        tokio::select! {
            result = &mut probe => result,
            _slow = self.slow.acquire() => {
                drop(quick);
                probe.await
            }
        }
    }
}
