//! Whether this node's backends work. Only their owner asks them; it tells the writer, and the others by heartbeat.

mod check;
mod judge;
mod lanes;
mod probe;
mod report;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::model::writer::Stopped;
use crate::model::{Snapshot, View, Writer};
use check::{Check, Finding};
use judge::Judge;
use lanes::Lanes;

pub use report::{CheckReport, HealthReport};

/// Findings that wait to be heard.
const WAITING: usize = 256;

/// Starts checking the backends of `node`. The report is always the latest; ends with the writer.
pub fn start(node: Arc<str>, writer: Writer) -> (watch::Receiver<Arc<HealthReport>>, JoinHandle<()>) {
    let (report, reports) = watch::channel(Arc::default());
    let (findings, inbox) = mpsc::channel(WAITING);
    let supervisor = Supervisor {
        node,
        view: writer.view(),
        writer,
        lanes: Arc::new(Lanes::new()),
        findings,
        inbox,
        running: HashMap::new(),
        unhealthy: None,
        report,
    };
    (reports, tokio::spawn(supervisor.run()))
}

/// Keeps one task for each backend of this node that has a check, and the judgement on each.
struct Supervisor {
    node: Arc<str>,
    view: View,
    writer: Writer,
    lanes: Arc<Lanes>,
    findings: mpsc::Sender<Finding>,
    inbox: mpsc::Receiver<Finding>,
    /// By backend tag.
    running: HashMap<u64, Running>,
    /// What the writer was told last.
    unhealthy: Option<BTreeSet<u64>>,
    report: watch::Sender<Arc<HealthReport>>,
}

struct Running {
    check: Check,
    judge: Judge,
    report: CheckReport,
    task: AbortHandle,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let told = tokio::select! {
                snapshot = self.view.changed() => match snapshot {
                    Ok(snapshot) => self.follow(&snapshot).await,
                    Err(stopped) => Err(stopped),
                },
                // This end is kept open by the sender held here.
                Some(finding) = self.inbox.recv() => self.learn(finding).await,
            };
            if let Err(Stopped) = told {
                return;
            }
        }
    }

    /// Starts, replaces and ends checks so that they are those of the snapshot.
    async fn follow(&mut self, snapshot: &Snapshot) -> Result<(), Stopped> {
        let wanted = wanted(&self.node, snapshot);
        self.running.retain(|tag, running| {
            let stays = wanted.contains_key(tag);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (tag, check) in wanted {
            match self.running.get_mut(&tag) {
                Some(running) if running.check == check => {}
                // What was found out stays true of the same task when only the way of asking changes.
                Some(running) => {
                    running.task.abort();
                    running.task = check.start(tag, &self.lanes, &self.findings);
                    running.judge.set_thresholds(&check.how);
                    running.check = check;
                }
                None => {
                    let task = check.start(tag, &self.lanes, &self.findings);
                    let judge = Judge::new(&check.how);
                    self.running.insert(
                        tag,
                        Running {
                            check,
                            judge,
                            report: CheckReport::default(),
                            task,
                        },
                    );
                }
            }
        }
        self.publish().await
    }

    async fn learn(&mut self, finding: Finding) -> Result<(), Stopped> {
        // The last word of a check that has just been ended.
        let Some(running) = self.running.get_mut(&finding.tag) else {
            return Ok(());
        };
        let words = finding
            .result
            .as_ref()
            .map_or_else(ToString::to_string, |()| "ok".to_owned());
        let flipped = running.judge.hear(finding.result.is_ok());
        let since = if flipped {
            Some(SystemTime::now())
        } else {
            running.report.since
        };
        let next = CheckReport {
            healthy: running.judge.healthy(),
            since,
            last: words,
        };
        if flipped {
            let Check {
                service, task, how, ..
            } = &running.check;
            match running.judge.healthy() {
                Some(true) => tracing::info!(%service, %task, "the backend passes its health check"),
                _ => tracing::warn!(
                    %service, %task, reason = %next.last,
                    "the backend fails its health check: no new connections until {} probes in a row succeed",
                    how.successes
                ),
            }
        }
        if next == running.report {
            return Ok(());
        }
        running.report = next;
        self.publish().await
    }

    /// Tells the writer what is unhealthy if that has changed, and everyone who looks at the report.
    async fn publish(&mut self) -> Result<(), Stopped> {
        let failing = |running: &Running| running.judge.healthy() == Some(false);
        let unhealthy: BTreeSet<u64> = self
            .running
            .iter()
            .filter(|(_, running)| failing(running))
            .map(|(tag, _)| *tag)
            .collect();
        let checks = self
            .running
            .iter()
            .map(|(tag, running)| (*tag, running.report.clone()))
            .collect();
        self.report.send_replace(Arc::new(HealthReport {
            checks,
            unhealthy: unhealthy.clone(),
            settled: self
                .running
                .values()
                .all(|running| running.judge.healthy().is_some()),
        }));
        if self.unhealthy.as_ref() != Some(&unhealthy) {
            self.writer
                .health(Arc::clone(&self.node), unhealthy.clone())
                .await?;
            self.unhealthy = Some(unhealthy);
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.task.abort());
    }
}

/// The checks that are this node's to make.
fn wanted(node: &str, snapshot: &Snapshot) -> HashMap<u64, Check> {
    let mut wanted = HashMap::new();
    for service in snapshot.services.values() {
        let Some(how) = &service.health else { continue };
        for backend in service.backends.iter().filter(|backend| *backend.node == *node) {
            let check = Check {
                service: Arc::clone(&service.name),
                task: Arc::clone(&backend.task),
                addresses: backend.addresses.clone(),
                how: how.clone(),
            };
            wanted.insert(backend.tag, check);
        }
    }
    wanted
}
