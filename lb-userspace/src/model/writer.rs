//! The one writer of the snapshot: a task that takes events and publishes pictures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::compose::{Composer, Event, Past};
use super::marks::{DrainMark, DrainObject, Drains, Refusal};
use super::merge::Conflict;
use super::{Agreed, Desired, Snapshot};

/// How often forgettable marks are looked for.
const CLOCK: Duration = Duration::from_secs(600);

/// The way to the writer, for those who bring news. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    messages: mpsc::Sender<Message>,
    drains: watch::Receiver<Arc<Drains>>,
    conflicts: watch::Receiver<Arc<[Conflict]>>,
    view: View,
}

/// The latest snapshot, for those who carry it out or show it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    snapshot: Arc<ArcSwap<Snapshot>>,
    generation: watch::Receiver<u64>,
}

enum Message {
    Event(Event),
    Command {
        object: DrainObject,
        drained: bool,
        answer: oneshot::Sender<Result<DrainMark, Refusal>>,
    },
}

/// The writer has ended, as it does when the agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopped;

/// Why a command is not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Writer {
    /// Starts the writer. It ends when the last `Writer` is dropped.
    ///
    /// `sources` names all that will speak: until each has, the snapshot is the empty one of generation 0, which no
    /// plane carries out.
    pub fn start(
        agreed: impl Into<Agreed>,
        sources: impl IntoIterator<Item = Arc<str>>,
        past: impl Into<Past>,
    ) -> (Self, JoinHandle<()>) {
        let past = past.into();
        let (messages, inbox) = mpsc::channel(256);
        let (drain_sender, drain_marks) = watch::channel(Arc::new(past.drains.clone()));
        let (conflict_sender, conflicts) = watch::channel(Arc::from([]));
        let (generation_sender, generation) = watch::channel(0);
        let view = View {
            snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
            generation,
        };
        let actor = Actor {
            composer: Composer::new(agreed, sources, past),
            inbox,
            snapshot: Arc::clone(&view.snapshot),
            generation: generation_sender,
            drains: drain_sender,
            conflicts: conflict_sender,
        };
        (
            Self {
                messages,
                drains: drain_marks,
                conflicts,
                view,
            },
            tokio::spawn(actor.run()),
        )
    }

    /// Everything a source wants now.
    pub async fn source(&self, source: Arc<str>, desired: Arc<Desired>) -> Result<(), Stopped> {
        self.send(Event::Source { source, desired }).await
    }

    /// Tags of all backends on `node` that fail its checks.
    pub async fn health(&self, node: Arc<str>, unhealthy: BTreeSet<u64>) -> Result<(), Stopped> {
        self.send(Event::Health { node, unhealthy }).await
    }

    /// All nodes that are silent.
    pub async fn suspicion(&self, silent: BTreeSet<Arc<str>>) -> Result<(), Stopped> {
        self.send(Event::Suspicion(silent)).await
    }

    /// All other nodes without packet programs.
    pub async fn by_proxy(&self, nodes: BTreeSet<Arc<str>>) -> Result<(), Stopped> {
        self.send(Event::ByProxy(nodes)).await
    }

    /// A drain mark that another agent has sent.
    pub async fn drain_mark(&self, mark: DrainMark) -> Result<(), Stopped> {
        self.send(Event::Drain(mark)).await
    }

    /// An operator's command; the answer is the mark that all agents will follow.
    pub async fn drain(&self, object: DrainObject, drained: bool) -> Result<DrainMark, DrainError> {
        let (answer, answered) = oneshot::channel();
        let command = Message::Command {
            object,
            drained,
            answer,
        };
        self.messages.send(command).await.map_err(|_| Stopped)?;
        Ok(answered.await.map_err(|_| Stopped)??)
    }

    /// All drain marks, to be repeated to other agents and kept over restarts.
    pub fn drains(&self) -> watch::Receiver<Arc<Drains>> {
        self.drains.clone()
    }

    /// What a source wanted and an earlier source has.
    pub fn conflicts(&self) -> Arc<[Conflict]> {
        Arc::clone(&self.conflicts.borrow())
    }

    pub fn view(&self) -> View {
        self.view.clone()
    }

    async fn send(&self, event: Event) -> Result<(), Stopped> {
        self.messages
            .send(Message::Event(event))
            .await
            .map_err(|_| Stopped)
    }
}

impl View {
    /// The latest snapshot; the empty one of generation 0 before any source has spoken.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Waits for a snapshot that this view has not returned from here yet.
    pub async fn changed(&mut self) -> Result<Arc<Snapshot>, Stopped> {
        self.generation.changed().await.map_err(|_| Stopped)?;
        Ok(self.current())
    }

    /// Of a picture that nobody has written.
    #[cfg(test)]
    pub fn fixed(snapshot: Snapshot) -> Self {
        Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            generation: watch::channel(0).1,
        }
    }
}

struct Actor {
    composer: Composer,
    inbox: mpsc::Receiver<Message>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    generation: watch::Sender<u64>,
    drains: watch::Sender<Arc<Drains>>,
    conflicts: watch::Sender<Arc<[Conflict]>>,
}

impl Actor {
    async fn run(mut self) {
        let mut clock = interval(CLOCK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let warm = self.composer.next_deadline().map(Instant::from_std);
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = sleep_until(warm.unwrap_or_else(Instant::now)), if warm.is_some() => {}
                _ = clock.tick() => self.composer.absorb(Event::Clock(milliseconds())),
            }
            // What has come in meanwhile goes into the same picture.
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            self.publish();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.composer.absorb(event),
            Message::Command {
                object,
                drained,
                answer,
            } => {
                let mark = self
                    .composer
                    .marks()
                    .drains
                    .command(object, drained, milliseconds());
                let answered = match self.composer.marks().drains.refusal(&mark) {
                    Some(refusal) => Err(refusal),
                    None => {
                        self.composer.absorb(Event::Drain(mark.clone()));
                        Ok(mark)
                    }
                };
                // Where nobody waits for the answer the command holds all the same.
                let _ = answer.send(answered);
            }
        }
    }

    fn publish(&mut self) {
        if **self.drains.borrow() != self.composer.marks().drains {
            self.drains
                .send_replace(Arc::new(self.composer.marks().drains.clone()));
        }
        if **self.conflicts.borrow() != *self.composer.conflicts() {
            for conflict in self.composer.conflicts() {
                tracing::warn!("{conflict}");
            }
            self.conflicts.send_replace(self.composer.conflicts().into());
        }
        if let Some(snapshot) = self.composer.compose(Instant::now().into_std()) {
            let generation = snapshot.generation;
            self.snapshot.store(Arc::new(snapshot));
            self.generation.send_replace(generation);
        }
    }
}

/// Since 1970; 0 for a clock before that.
fn milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
