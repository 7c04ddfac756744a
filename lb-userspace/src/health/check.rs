//! One backend's check: a task that probes at intervals.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::lanes::Lanes;
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
    pub fn start(&self, tag: u64, lanes: &Arc<Lanes>, findings: &mpsc::Sender<Finding>) -> AbortHandle {
        let (check, lanes, findings) = (self.clone(), Arc::clone(lanes), findings.clone());
        let probing = async move {
            let ask = || check.ask_everywhere();
            repeat(tag, check.how.interval, &lanes, ask, &findings).await;
        };
        tokio::spawn(probing).abort_handle()
    }

    async fn ask_everywhere(&self) -> Result<(), Failure> {
        try_join_all(self.addresses.iter().map(|&address| self.ask(address)))
            .await
            .map(drop)
    }

    async fn ask(&self, address: IpAddr) -> Result<(), Failure> {
        let target = SocketAddr::new(address, self.how.port);
        probe(target, &self.how.probe, self.how.timeout)
            .await
            .map_err(|error| Failure { address, error })
    }
}

/// Asks again and again, one question at a time, each due `interval` after the one before was due: the time that answers take
/// is no reason to find out later. A timeout is at most the interval, so a task that hangs has failed `failures` times within
/// interval × failures + timeout.
async fn repeat<A>(
    tag: u64,
    interval: Duration,
    lanes: &Lanes,
    ask: impl Fn() -> A,
    findings: &mpsc::Sender<Finding>,
) where
    A: Future<Output = Result<(), Failure>>,
{
    sleep(SPREAD.min(interval).mul_f64(random())).await;
    let mut due = Instant::now();
    let mut failed = false;
    loop {
        let result = lanes.run(failed, ask()).await;
        failed = result.is_err();
        if findings.send(Finding { tag, result }).await.is_err() {
            return;
        }
        // Up to a tenth less keeps the checks of many services from falling into step; never more, for the bound's sake.
        // What is overdue is asked at once, and what was missed is not made up for.
        due = (due + interval.mul_f64(0.9 + 0.1 * random())).max(Instant::now());
        sleep_until(due).await;
    }
}

/// From 0 to 1, as different every time as the standard library's hash keys are.
fn random() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);
    const TIMEOUT: Duration = Duration::from_secs(1);
    const FAILURES: u32 = 3;

    async fn hang() -> Result<(), Failure> {
        timeout(TIMEOUT, pending::<()>()).await.map_err(|_| Failure {
            address: [192, 0, 2, 1].into(),
            error: ProbeError::Timeout(TIMEOUT),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_found_within_interval_times_failures_and_one_timeout() {
        let (findings, mut inbox) = mpsc::channel::<Finding>(1);
        let (lanes, hangs, asked) = (Lanes::new(), Cell::new(false), RefCell::new(Vec::new()));
        let ask = async || {
            asked.borrow_mut().push(Instant::now());
            if hangs.get() { hang().await } else { Ok(()) }
        };
        let listen = async {
            assert!(inbox.recv().await.unwrap().result.is_ok());
            // The worst moment: just after an answer.
            hangs.set(true);
            let start = Instant::now();
            for _ in 0..FAILURES {
                assert!(inbox.recv().await.unwrap().result.is_err());
            }
            assert!(
                start.elapsed() <= INTERVAL * FAILURES + TIMEOUT,
                "{:?}",
                start.elapsed()
            );
        };
        tokio::select! {
            () = repeat(1, INTERVAL, &lanes, ask, &findings) => unreachable!("it never ends"),
            () = listen => {}
        }
        // Started at the pace of the interval, though every answer took a second.
        for pair in asked.borrow().windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause <= INTERVAL && pause >= INTERVAL.mul_f64(0.89), "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_longer_than_the_interval_is_never_asked_twice_at_once() {
        let (findings, mut inbox) = mpsc::channel::<Finding>(1);
        let (lanes, under_way) = (Lanes::new(), Cell::new(0));
        let ask = async || {
            under_way.set(under_way.get() + 1);
            assert_eq!(under_way.get(), 1);
            let result = hang().await;
            under_way.set(0);
            result
        };
        let start = Instant::now();
        let listen = async {
            for _ in 0..5 {
                assert!(inbox.recv().await.unwrap().result.is_err());
            }
        };
        tokio::select! {
            () = repeat(1, TIMEOUT / 4, &lanes, ask, &findings) => unreachable!("it never ends"),
            () = listen => {}
        }
        assert!(start.elapsed() <= TIMEOUT * 5 + SPREAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_that_hang_do_not_delay_the_one_that_answers() {
        let (findings, mut inbox) = mpsc::channel::<Finding>(1024);
        let lanes = Arc::new(Lanes::new());
        for tag in 1..=1000 {
            let (lanes, findings) = (Arc::clone(&lanes), findings.clone());
            tokio::spawn(async move { repeat(tag, INTERVAL, &lanes, hang, &findings).await });
        }
        // Each of them has failed once; until then nobody can tell them from the others.
        for _ in 0..1000 {
            inbox.recv().await.unwrap();
        }
        tokio::spawn(async move { repeat(0, INTERVAL, &lanes, async || Ok(()), &findings).await });
        let mut last = Instant::now();
        for _ in 0..5 {
            while inbox.recv().await.unwrap().tag != 0 {}
            assert!(
                last.elapsed() <= INTERVAL + Duration::from_millis(10),
                "{:?}",
                last.elapsed()
            );
            last = Instant::now();
        }
    }
}
