//! Hands the writer what each picture of the engine wants.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Converter, NAME, address};
use crate::config::Interfaces;
use crate::model::writer::Stopped;
use crate::model::{Desired, Writer};
use crate::source::engine::{Engine, Local, Problem};
use crate::source::kept::Kept;
use crate::source::{Note, SourceReport};

/// How long the others wait for the first picture where nothing is known of an earlier one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the source works with.
pub struct Setup {
    pub engine: Engine,
    pub node: Arc<str>,
    /// As configured.
    pub address: Option<Ipv4Addr>,
    pub interfaces: Interfaces,
    pub writer: Writer,
    /// What was served last, over restarts of the agent.
    pub kept: Kept,
}

/// Starts following; the report is always the latest.
pub fn start(setup: Setup) -> (watch::Receiver<SourceReport>, JoinHandle<()>) {
    let place = setup.engine.socket().display().to_string();
    let (report, reports) = watch::channel(SourceReport::new(NAME, place));
    let follower = Follower {
        converter: Converter::new(Arc::clone(&setup.node), None),
        setup,
        report,
        served: None,
    };
    let following = tokio::spawn(async move {
        // It ends with the writer.
        let _ = follower.run().await;
    });
    (reports, following)
}

struct Follower {
    setup: Setup,
    converter: Converter,
    report: watch::Sender<SourceReport>,
    /// What the writer has been told last.
    served: Option<Arc<Desired>>,
}

impl Follower {
    async fn run(mut self) -> Result<(), Stopped> {
        let mut local = self.setup.engine.local();
        let mut problem = self.setup.engine.problem();
        if !self.recall().await? && timeout(PATIENCE, local.wait_for(Option::is_some)).await.is_err() {
            // Other sources are not to wait for an engine that may never come.
            self.speak(Desired::default()).await?;
        }
        let mut seen: Option<Arc<Local>> = None;
        loop {
            let picture = local.borrow_and_update().clone();
            if let Some(picture) = picture
                && !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &picture))
            {
                self.absorb(&picture).await?;
                seen = Some(picture);
            }
            let trouble = problem.borrow_and_update().clone();
            self.complain(trouble.as_ref());
            let changed = tokio::select! {
                changed = local.changed() => changed,
                changed = problem.changed() => changed,
            };
            if changed.is_err() {
                return Ok(());
            }
        }
    }

    /// Serves what an agent before this one did, where that is known.
    async fn recall(&mut self) -> Result<bool, Stopped> {
        let Some((desired, when)) = self.setup.kept.recall() else {
            return Ok(false);
        };
        self.tell(&desired, Vec::new(), when);
        self.speak(desired).await?;
        Ok(true)
    }

    async fn absorb(&mut self, local: &Arc<Local>) -> Result<(), Stopped> {
        let address = self.address(local);
        let (desired, mut notes) = self.converter.convert(local, address);
        notes.splice(0..0, local.notes.iter().cloned());
        self.tell(&desired, notes, SystemTime::now());
        let news = self.served.as_deref() != Some(&desired);
        self.speak(desired).await?;
        if let Some(served) = self.served.as_ref().filter(|_| news) {
            self.setup.kept.save(served);
        }
        Ok(())
    }

    /// What the configuration says, else what the swarm goes by, else what was found first.
    fn address(&self, local: &Local) -> Option<Ipv4Addr> {
        let swarm = || local.swarm.as_ref()?.address;
        // An engine that has not said yet what it is to a swarm may have had that address from it.
        let kept = || {
            let served = self.served.as_ref().filter(|_| local.unclear)?;
            served.nodes.get(&self.setup.node).map(|node| node.address)
        };
        let found = || {
            self.converter
                .address()
                .or_else(|| address(&self.setup.interfaces))
        };
        self.setup.address.or_else(swarm).or_else(kept).or_else(found)
    }

    async fn speak(&mut self, desired: Desired) -> Result<(), Stopped> {
        if self.served.as_deref() == Some(&desired) {
            return Ok(());
        }
        let desired = Arc::new(desired);
        self.served = Some(Arc::clone(&desired));
        self.setup.writer.source(NAME.into(), desired).await
    }

    fn tell(&self, desired: &Desired, notes: Vec<Note>, loaded: SystemTime) {
        for note in &notes {
            if !self.report.borrow().notes.contains(note) {
                tracing::warn!("{}; {}", note.what, note.consequence);
            }
        }
        self.report.send_modify(|report| {
            report.loaded = Some(loaded);
            report.services = desired.services.len();
            report.backends = desired
                .services
                .values()
                .map(|service| service.backends.len())
                .sum();
            report.nodes = desired.nodes.len();
            report.notes = notes;
        });
    }

    fn complain(&self, problem: Option<&Problem>) {
        let error = problem.map(|problem| {
            // The engine knows nothing of what an earlier agent kept.
            let served = problem.served || self.report.borrow().loaded.is_some();
            Problem {
                served,
                ..problem.clone()
            }
            .to_string()
        });
        self.report.send_if_modified(|report| {
            let news = report.error != error;
            report.error = error;
            news
        });
    }
}
