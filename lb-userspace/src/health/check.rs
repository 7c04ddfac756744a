//! One backend's check: a task that probes at intervals.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::probe::{ProbeError, probe};
use crate::model::HealthCheck;

/// What is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub service: Arc<str>,
    pub task: Arc<str>,
    /// Each of them is asked every time.
    pub addresses: Vec<IpAddr>,
    pub how: HealthCheck,
}

/// What one round of probes found.
#[derive(Debug)]
pub struct Finding {
    /// Of the backend.
    pub tag: u64,
    /// All addresses answered, or what the first to fail said: each has connections of its own family.
    pub result: Result<(), Failure>,
}

#[derive(Debug, thiserror::Error)]
#[error("{address}: {error}")]
pub struct Failure {
    address: IpAddr,
    error: ProbeError,
}

/// The first probe comes within this time: many backends learned at once are not probed all at once.
const SPREAD: Duration = Duration::from_millis(100);

impl Check {
    /// Probes until aborted.
    pub fn start(&self, tag: u64, permits: &Arc<Semaphore>, findings: &mpsc::Sender<Finding>) -> AbortHandle {
        let (check, permits, findings) = (self.clone(), Arc::clone(permits), findings.clone());
        tokio::spawn(async move { check.run(tag, &permits, &findings).await }).abort_handle()
    }

    async fn run(self, tag: u64, permits: &Semaphore, findings: &mpsc::Sender<Finding>) {
        sleep(SPREAD.min(self.how.interval).mul_f64(random())).await;
        loop {
            let result = {
                // Never closed: every check ends before the semaphore does.
                let _permit = permits.acquire().await;
                try_join_all(self.addresses.iter().map(|&address| self.ask(address)))
                    .await
                    .map(drop)
            };
            if findings.send(Finding { tag, result }).await.is_err() {
                return;
            }
            // Up to a tenth less keeps the checks of many services from falling into step; never more, because
            // "interval × failures" is what people reckon with.
            sleep(self.how.interval.mul_f64(0.9 + 0.1 * random())).await;
        }
    }

    async fn ask(&self, address: IpAddr) -> Result<(), Failure> {
        let target = SocketAddr::new(address, self.how.port);
        probe(target, &self.how.probe, self.how.timeout)
            .await
            .map_err(|error| Failure { address, error })
    }
}

/// From 0 to 1, as different every time as the standard library's hash keys are.
fn random() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}
