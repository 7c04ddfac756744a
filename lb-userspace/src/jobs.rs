//! Work that blocks: on threads that wait for nothing else, and under a name, so that an agent that ends can say what it
//! did not wait for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// Of the whole process, oldest first.
static UNDER_WAY: Mutex<Vec<Job>> = Mutex::new(Vec::new());
/// Between two looks whether all have ended.
const LOOK: Duration = Duration::from_millis(5);

/// One that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub what: &'static str,
    pub since: Instant,
}

/// Does `job` on a thread that may block. It goes on when the handle is dropped.
pub fn run<T: Send + 'static>(what: &'static str, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || {
        let _entry = Entry::new(what);
        job()
    })
}

/// Those that have begun and not ended.
pub fn under_way() -> Vec<Job> {
    lock().clone()
}

/// Until none is under way.
pub async fn ended() {
    while !lock().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
}

/// In the list as long as it lives, which is until a panic at most.
struct Entry(Job);

impl Entry {
    fn new(what: &'static str) -> Self {
        let since = Instant::now();
        let job = Job { what, since };
        lock().push(job);
        Self(job)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut jobs = lock();
        // One of equals is as good as another.
        if let Some(at) = jobs.iter().position(|job| *job == self.0) {
            jobs.remove(at);
        }
    }
}

fn lock() -> MutexGuard<'static, Vec<Job>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn is_under_way(what: &str) -> bool {
        under_way().iter().any(|job| job.what == what)
    }

    #[tokio::test]
    async fn a_job_is_under_way_until_it_ends_or_panics() {
        let (go, wait) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let job = run("wait for a word", move || {
            begun.send(()).unwrap();
            let _ = wait.recv();
        });
        begins.await.unwrap();
        assert!(is_under_way("wait for a word"));
        go.send(()).unwrap();
        job.await.unwrap();
        assert!(!is_under_way("wait for a word"));
        let panicked = run("panic", || panic!("on purpose"));
        assert!(panicked.await.is_err());
        assert!(!is_under_way("panic"));
    }
}
