//! When the agent stops, and that it does: within [`CONNECTIONS`], [`REQUESTS`] and twice [`PATIENCE`], less than the ten seconds after which
//! `docker stop` kills.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::notify;
use crate::api::Problem;
use crate::jobs::{self, Job};

/// How long connections of clients may go on after the signal, where no other agent carries them.
pub const CONNECTIONS: Duration = Duration::from_secs(1);
/// How long requests on the control socket may go on after the signal.
pub const REQUESTS: Duration = Duration::from_secs(2);
/// How long what is under way may go on after these, and how long threads may take to end after that. Longer than a
/// source's picture waits until it is kept.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Ends what waits for the other side.
pub struct Stop(oneshot::Sender<()>);

impl Stop {
    pub fn trigger(self) {
        // Nobody waits any more: all the better.
        let _ = self.0.send(());
    }
}

pub fn channel() -> (Stop, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = oneshot::channel();
    let stopping = async move {
        // An agent that vanished is a reason to stop, too.
        let _ = receiver.await;
    };
    (Stop(sender), stopping)
}

/// What the process is told from outside, from when this is made: nothing is missed between two who wait for it.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// To be called within the runtime that hears them.
    pub fn listen() -> Result<Self, Problem> {
        let listen = |kind| {
            let failed = |error| Problem::new("cannot listen for signals").because(error);
            signal(kind).map_err(failed)
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. At SIGHUP `reload` is called.
    pub async fn end(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

/// How the agent ended.
#[derive(Debug)]
pub struct Ended<L> {
    /// What it leaves, if another agent has replaced it.
    pub left: Option<L>,
    /// It was told to.
    pub told: bool,
}

/// Waits until the agent ends, by itself or at the signal. At the signal it is waited for only so long.
pub async fn attend<L>(
    mut agent: JoinHandle<Result<Option<L>, Problem>>,
    stop: Stop,
    signal: impl Future<Output = &'static str>,
) -> Result<Ended<L>, Problem> {
    let signal = tokio::select! {
        signal = signal => signal,
        ended = &mut agent => return outcome(ended).map(|left| Ended { left, told: false }),
    };
    tracing::info!(
        signal,
        "stopping; packet programs stay and their connections go on, those of the proxy end unless another agent carries them"
    );
    notify(&[sd_notify::NotifyState::Stopping]);
    stop.trigger();
    match timeout(CONNECTIONS + REQUESTS + PATIENCE, agent).await {
        Ok(ended) => outcome(ended).map(|left| Ended { left, told: true }),
        // The end of its threads tells what they do.
        Err(_) => Ok(Ended {
            left: None,
            told: true,
        }),
    }
}

fn outcome<L>(ended: Result<Result<Option<L>, Problem>, JoinError>) -> Result<Option<L>, Problem> {
    ended.unwrap_or_else(|panic| {
        Err(Problem::new("the agent has failed")
            .because(panic)
            .traffic("programs attached before go on")
            .fix("report this as a bug"))
    })
}

/// What was not waited for.
#[derive(Debug)]
pub struct CutOff {
    pub jobs: Vec<Job>,
    /// Tasks that do not give their thread back.
    pub tasks: usize,
}

/// Ends the agent's tasks, which keep what they have to keep, and its threads. What has not ended after `patience` ends with
/// the process, as if it were killed: the log says what that was.
pub fn end(work: Runtime, patience: Duration) -> Option<CutOff> {
    let metrics = work.metrics();
    work.shutdown_timeout(patience);
    let cut_off = CutOff {
        jobs: jobs::under_way(),
        tasks: metrics.num_alive_tasks(),
    };
    if cut_off.jobs.is_empty() && cut_off.tasks == 0 {
        return None;
    }
    let told = |job: &Job| format!("{}, for {:.1} s", job.what, job.since.elapsed().as_secs_f32());
    let jobs: Vec<_> = cut_off.jobs.iter().map(told).collect();
    tracing::warn!(
        ?jobs,
        tasks = cut_off.tasks,
        "work that does not end is cut off: the next agent mends what it left; report this as a bug"
    );
    Some(cut_off)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use nix::sys::signal::{Signal, raise};
    use tokio::runtime::Builder;
    use tokio::time::sleep;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    fn threads() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    }

    /// Keeps both threads of a runtime busy until it is told.
    fn occupy(work: &Runtime, until: &Arc<AtomicBool>) {
        let busy = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..2 {
            let (until, busy) = (Arc::clone(until), Arc::clone(&busy));
            work.spawn(async move {
                busy.wait();
                while !until.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        busy.wait();
    }

    #[test]
    fn a_job_and_tasks_that_do_not_end_are_cut_off_and_named() {
        let work = threads();
        let (go, wait) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        work.block_on(async {
            drop(jobs::run("wait for the test", move || {
                begun.send(()).unwrap();
                let _ = wait.recv();
            }));
        });
        begins.recv().unwrap();
        let enough = Arc::<AtomicBool>::default();
        occupy(&work, &enough);
        let start = Instant::now();
        let cut_off = end(work, SOON).unwrap();
        enough.store(true, Ordering::Relaxed);
        drop(go);
        assert!(start.elapsed() < 50 * SOON, "{:?}", start.elapsed());
        assert_eq!(cut_off.tasks, 2);
        assert!(
            cut_off.jobs.iter().any(|job| job.what == "wait for the test"),
            "{cut_off:?}"
        );
    }

    #[test]
    fn an_agent_whose_threads_are_all_busy_hears_the_signal_and_is_not_waited_for() {
        let (work, enough) = (threads(), Arc::<AtomicBool>::default());
        let (stop, stopping) = channel();
        let agent = work.spawn(async move {
            stopping.await;
            Ok(None::<()>)
        });
        occupy(&work, &enough);
        let watch = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ended = watch.block_on(attend(agent, stop, std::future::ready("SIGTERM")));
        assert!(ended.is_ok());
        assert_eq!(end(work, SOON).map(|cut_off| cut_off.tasks >= 2), Some(true));
        enough.store(true, Ordering::Relaxed);
    }

    /// An agent that another one replaces ends by itself, and what is left of it goes on: the same signals end that.
    #[test]
    fn a_signal_counts_whenever_it_comes() {
        let watch = Builder::new_current_thread().enable_all().build().unwrap();
        watch.block_on(async {
            let mut signals = Signals::listen().unwrap();
            let (stop, stopping) = channel();
            let (let_go, ends) = oneshot::channel();
            // It ends when its successor says so, told or not.
            let agent = tokio::spawn(async move {
                stopping.await;
                let _ = ends.await;
                Ok(Some("connections"))
            });
            let attending = attend(agent, stop, signals.end(|| {}));
            raise(Signal::SIGTERM).unwrap();
            let telling = async {
                sleep(SOON).await;
                let_go.send(()).unwrap();
            };
            let (ended, ()) = tokio::join!(attending, telling);
            let ended = ended.unwrap();
            assert_eq!((ended.left, ended.told), (Some("connections"), true));

            let (stop, _stopping) = channel();
            let agent = tokio::spawn(async { Ok(Some("connections")) });
            let ended = attend(agent, stop, signals.end(|| {})).await.unwrap();
            assert_eq!((ended.left, ended.told), (Some("connections"), false));
            // Nobody waits for it right now.
            raise(Signal::SIGTERM).unwrap();
            sleep(SOON).await;
            let heard = timeout(50 * SOON, signals.end(|| {})).await.unwrap();
            assert_eq!(heard, "SIGTERM");
        });
    }

    #[test]
    fn tasks_that_wait_end_at_once_with_what_they_hold() {
        struct Kept(mpsc::Sender<()>);
        impl Drop for Kept {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (work, (kept, keeps)) = (threads(), mpsc::channel());
        let kept = Kept(kept);
        work.spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        let start = Instant::now();
        assert_eq!(end(work, 100 * SOON).map_or(0, |cut_off| cut_off.tasks), 0);
        assert!(start.elapsed() < 50 * SOON, "{:?}", start.elapsed());
        keeps.try_recv().unwrap();
    }
}
