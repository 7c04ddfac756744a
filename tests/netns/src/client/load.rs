//! HTTP at a steady rate, while the cluster changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Pace;
use super::http::{Answer, Connection, PATIENCE};
use super::report::{Failure, Kind, Report};
use crate::namespace::{Namespace, Running};

/// What to ask, how often and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Asked in turn.
    pub targets: Vec<SocketAddr>,
    /// Requests per second, all workers together.
    pub rate: f64,
    /// Requests share connections: one per worker and target. Otherwise each has its own.
    pub keep_alive: bool,
    pub workers: usize,
    /// Client addresses, taken in turn; none: the namespace's own.
    pub sources: Vec<IpAddr>,
    /// How long to wait for a connection or an answer.
    pub patience: Duration,
}

impl Plan {
    /// Each request on a connection of its own.
    pub fn new_connections(targets: &[SocketAddr], rate: f64) -> Self {
        Self {
            targets: targets.to_vec(),
            rate,
            keep_alive: false,
            workers: 8,
            sources: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Connections that are kept.
    pub fn keep_alive(targets: &[SocketAddr], rate: f64) -> Self {
        Self {
            keep_alive: true,
            ..Self::new_connections(targets, rate)
        }
    }

    /// Starts the load inside a namespace.
    pub fn start(self, from: &Namespace) -> Load {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
        });
        let start = Instant::now();
        let workers = (0..self.workers)
            .map(|number| {
                let worker = Worker {
                    plan: self.clone(),
                    number,
                    start,
                    report: Report::default(),
                    kept: self.targets.iter().map(|_| None).collect(),
                };
                let shared = shared.clone();
                from.spawn(move || worker.work(&shared))
            })
            .collect();
        Load { shared, workers }
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<Running<Report>>,
}

impl Load {
    /// Requests that ended so far, well or not.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests have ended: something was asked after whatever changed.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.done() + more;
        crate::wait::until("the load goes on", Duration::from_secs(60), || {
            self.done() >= goal
        })?;
        Ok(())
    }

    pub fn stop(self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for worker in self.workers {
            report.merge(worker.join()?);
        }
        report.failures.sort_by_key(|failure| failure.at);
        Ok(report)
    }
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
}

struct Worker {
    plan: Plan,
    number: usize,
    start: Instant,
    report: Report,
    /// Connections kept, by target, with the task that has them.
    kept: Vec<Option<(Connection, Option<String>)>>,
}

impl Worker {
    fn work(mut self, shared: &Shared) -> Report {
        let share = self.plan.rate / self.plan.workers as f64;
        let offset = Duration::from_secs_f64(self.number as f64 / self.plan.rate);
        let mut pace = Pace::new(share, offset);
        // Workers begin at different targets, so that all are asked from the start.
        let mut turn = self.number;
        while !shared.stop.load(Ordering::Relaxed) {
            pace.wait();
            self.request(turn);
            turn += 1;
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
        self.report
    }

    fn request(&mut self, turn: usize) {
        let index = turn % self.plan.targets.len();
        let target = self.plan.targets[index];
        let began = Instant::now();
        let (mut connection, task) = match self.kept[index].take() {
            Some(kept) => kept,
            None => match Connection::open_with(target, self.source(turn, target), self.plan.patience) {
                Ok(connection) => {
                    self.report.connections += 1;
                    (connection, None)
                }
                Err(error) => return self.failed(target, None, None, &error),
            },
        };
        match connection.ask() {
            Ok(answer) => {
                self.report.slowest = self.report.slowest.max(began.elapsed());
                self.answered(target, task.as_deref(), &answer);
                if self.plan.keep_alive && !answer.last {
                    self.kept[index] = Some((connection, Some(answer.task)));
                }
            }
            Err(error) => self.failed(target, task, connection.local(), &error),
        }
    }

    fn source(&self, turn: usize, target: SocketAddr) -> Option<IpAddr> {
        let fitting: Vec<_> = self
            .plan
            .sources
            .iter()
            .filter(|source| source.is_ipv4() == target.is_ipv4())
            .collect();
        let pick = self.number + turn / self.plan.targets.len() * self.plan.workers;
        (!fitting.is_empty()).then(|| *fitting[pick % fitting.len()])
    }

    fn answered(&mut self, target: SocketAddr, before: Option<&str>, answer: &Answer) {
        if before.is_some_and(|task| task != answer.task) {
            let words = format!("the connection moved to {}", answer.task);
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, words);
            return self.failed(target, before.map(str::to_owned), None, &error);
        }
        *self
            .report
            .answers
            .entry((target, answer.task.clone()))
            .or_default() += 1;
        self.report.clients.insert(answer.client);
    }

    fn failed(
        &mut self,
        target: SocketAddr,
        task: Option<String>,
        local: Option<SocketAddr>,
        error: &std::io::Error,
    ) {
        let (at, kind) = (self.start.elapsed(), Kind::of(error));
        self.report.failures.push(Failure {
            at,
            target,
            kind,
            task,
            local,
            words: error.to_string(),
        });
    }
}
