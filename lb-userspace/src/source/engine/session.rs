//! One connection to the engine, from the first answer to the first that does not come.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::models::SystemInfo;
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::Mouth;
use super::book::Book;
use super::connect::{Connected, PATIENCE, ask, connect};
use super::events::{self, Event};
use super::identify::identify;
use super::inspect::{Found, Inspector};
use super::local::GATEWAY;
use super::problem::Reason;
use super::translate;
use crate::source::backoff::Backoff;

/// A session that lasted this long was a good one: what ends it is a new trouble.
pub const GOOD: Duration = Duration::from_secs(2);
/// Everything is compared with what the engine lists, whatever its events have said.
const RECONCILE: Duration = Duration::from_secs(30);
/// How long the first picture waits for what the engine is to a swarm. Longer, it is told without.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// The bridge of tasks is asked for again after these times, and so often, before it is left to the next comparison.
const BRIDGE_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
const BRIDGE_TRIES: u32 = 10;
/// Everything else waits for that answer, as tasks without their place on it are of no use.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(2);
/// The stream of events is silent for as long as nothing happens.
const SILENCE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Follows the engine until something goes wrong.
pub async fn run(socket: &Path, book: &mut Book, mouth: &Mouth) -> Reason {
    match follow(socket, book, mouth).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    }
}

async fn follow(socket: &Path, book: &mut Book, mouth: &Mouth) -> Result<Infallible, Reason> {
    let Connected { client, podman } = connect(socket).await?;
    // Before anything is listed: what happens meanwhile is told by the events.
    let since = SystemTime::now();
    mouth.client.send_replace(Some(client.clone()));
    let mut others = JoinSet::new();
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    others.spawn(read(client.clone(), podman, since, outbox));
    let (says, mut said) = mpsc::channel(1);
    let wake = Arc::<Notify>::default();
    others.spawn(identify(
        client.clone(),
        book.is_in_swarm(),
        Arc::clone(&wake),
        says,
    ));
    let mut session = Session {
        inspector: Inspector::new(client.clone()),
        client,
        book,
        mouth,
        wake,
        bridge_due: false,
        bridge_tries: 0,
        bridge_again: BRIDGE_AGAIN,
        again: None,
    };
    session.begin(&mut said).await?;
    mouth.tick();

    let now = Instant::now();
    let mut reconcile = interval_at(now + RECONCILE, RECONCILE);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut good = Some(now + GOOD);
    loop {
        let expiry = session.book.next_expiry();
        let (again, due) = (session.again, session.inspector.due());
        tokio::select! {
            event = inbox.recv() => {
                let mut batch = vec![event.unwrap_or(Err(Reason::Ended))?];
                while let Ok(event) = inbox.try_recv() {
                    batch.push(event?);
                }
                session.hear(batch).await?;
            }
            found = session.inspector.found() => session.learn(found?).await?,
            Some(answer) = said.recv() => session.identified(answer).await?,
            _ = reconcile.tick() => session.compare().await?,
            () = at(expiry) => session.book.expire(Instant::now()),
            () = at(due) => session.inspector.try_again(Instant::now()),
            () = at(again) => session.bridge_again().await?,
            () = at(good) => {
                good = None;
                mouth.content(socket);
            }
        }
        session.publish();
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Reads events as they come, whatever the session waits for: an engine drops what is not read in time.
async fn read(
    client: Docker,
    podman: bool,
    since: SystemTime,
    outbox: mpsc::UnboundedSender<Result<Event, Reason>>,
) {
    let client = client.with_timeout(SILENCE);
    let mut events = client.events(Some(events::options(podman, since)));
    while let Some(event) = events.next().await {
        let event = event
            .map(events::read)
            .map_err(|error| Reason::of("GET /events", &error));
        if event == Ok(Event::Other) {
            continue;
        }
        let failed = event.is_err();
        if outbox.send(event).is_err() || failed {
            return;
        }
    }
}

struct Session<'s> {
    client: Docker,
    book: &'s mut Book,
    mouth: &'s Mouth,
    inspector: Inspector,
    /// Has the engine asked what it is to a swarm.
    wake: Arc<Notify>,
    /// Somebody came or went who may be on the bridge of tasks.
    bridge_due: bool,
    bridge_tries: u32,
    bridge_again: Backoff,
    again: Option<Instant>,
}

impl Session<'_> {
    /// Gets as far as a picture of everything.
    async fn begin(
        &mut self,
        said: &mut mpsc::Receiver<Result<Box<SystemInfo>, Reason>>,
    ) -> Result<(), Reason> {
        self.compare().await?;
        while self.inspector.is_busy() {
            let found = self.inspector.found().await?;
            self.learn(found).await?;
        }
        // What the agent served before has an address of this node that the swarm may have chosen.
        if !self.book.is_identified()
            && let Ok(Some(answer)) = timeout(INTRODUCTION, said.recv()).await
        {
            self.identified(answer).await?;
        }
        self.publish();
        Ok(())
    }

    /// What a burst of events asks for, each container once.
    async fn hear(&mut self, batch: Vec<Event>) -> Result<(), Reason> {
        let now = Instant::now();
        let (mut changed, mut cluster, mut task) = (BTreeSet::new(), false, false);
        for event in batch {
            match event {
                Event::Container { id, task: is_task } => {
                    task |= is_task || self.book.is_task(&id);
                    changed.insert(id);
                }
                Event::Signal {
                    id,
                    signal,
                    task: is_task,
                } => {
                    task |= is_task;
                    if self.book.knows(&id) {
                        self.book.signal(&id, &signal, now);
                    } else {
                        changed.insert(id);
                    }
                }
                Event::Gone { id, task: is_task } => {
                    task |= is_task || self.book.is_task(&id);
                    changed.remove(&id);
                    self.inspector.forget(&id);
                    self.book.forget(&id);
                }
                Event::Cluster => cluster = true,
                Event::Other => {}
            }
        }
        if cluster {
            self.wake.notify_one();
        }
        if task && changed.is_empty() {
            self.bridge_anew().await?;
        }
        // Once it is known who they are.
        self.bridge_due |= task && !changed.is_empty();
        for id in changed {
            self.inspector.look(id);
        }
        self.publish();
        if task || cluster {
            self.mouth.tick();
        }
        Ok(())
    }

    /// Compares everything with the engine's list.
    async fn compare(&mut self) -> Result<(), Reason> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = ask("GET /containers/json", self.client.list_containers(Some(options))).await?;
        let ids: HashSet<&str> = listed.iter().filter_map(|entry| entry.id.as_deref()).collect();
        for gone in self.book.keep_only(&ids) {
            self.inspector.forget(&gone);
        }
        let differ = listed.iter().filter(|entry| !self.book.agrees(entry));
        for id in differ.filter_map(|entry| entry.id.as_deref()) {
            self.inspector.doubt(id.into());
        }
        self.bridge_due = true;
        if !self.inspector.is_busy() {
            self.learn(Vec::new()).await?;
        }
        Ok(())
    }

    /// What containers were found to be.
    async fn learn(&mut self, found: Vec<(Arc<str>, Found)>) -> Result<(), Reason> {
        for (id, found) in found {
            match found.map(|found| translate::container(*found)) {
                Some(Some(inspected)) => self.book.learn(inspected),
                Some(None) => {}
                None => self.book.forget(&id),
            }
            self.bridge_due |= self.book.is_task(&id);
        }
        if std::mem::take(&mut self.bridge_due) {
            self.bridge_anew().await?;
        }
        Ok(())
    }

    /// What the engine is to a swarm.
    async fn identified(&mut self, answer: Result<Box<SystemInfo>, Reason>) -> Result<(), Reason> {
        let before = self.book.is_in_swarm();
        match answer {
            Ok(info) => self.book.identify(&info),
            // Containers can be followed without it; what it was last it still is.
            Err(reason) => self.book.unidentified(&reason),
        }
        if self.book.is_in_swarm() != before {
            self.bridge_anew().await?;
        }
        Ok(())
    }

    /// Where tasks of a swarm are reached from this machine, after something happened to one of them.
    async fn bridge_anew(&mut self) -> Result<(), Reason> {
        self.bridge_tries = 0;
        self.bridge_again.reset();
        self.bridge().await
    }

    async fn bridge(&mut self) -> Result<(), Reason> {
        self.again = None;
        if self.book.is_identified() && !self.book.is_in_swarm() {
            self.book.bridge(None);
            return Ok(());
        }
        let request = "GET /networks/docker_gwbridge";
        let network = self
            .client
            .inspect_network(GATEWAY, None::<InspectNetworkOptions>);
        let answer = timeout(BRIDGE_PATIENCE.min(PATIENCE), ask(request, network)).await;
        let answer = answer.unwrap_or(Err(Reason::Silent {
            request,
            seconds: BRIDGE_PATIENCE.as_secs(),
        }));
        let failed = match answer {
            Ok(network) => {
                self.book.bridge(Some(network));
                false
            }
            Err(Reason::Refused { status: 404, .. }) => {
                self.book.bridge(None);
                false
            }
            Err(reason) if reason.is_of_one_answer() => {
                if self.bridge_tries == 0 {
                    tracing::warn!(%reason, "tasks of the swarm stay where they were last seen");
                }
                true
            }
            Err(reason) => return Err(reason),
        };
        self.bridge_tries += 1;
        let wanted = failed || self.book.lacks_gateway();
        if wanted && self.bridge_tries < BRIDGE_TRIES {
            self.again = Some(Instant::now() + self.bridge_again.pause());
        }
        Ok(())
    }

    async fn bridge_again(&mut self) -> Result<(), Reason> {
        self.bridge().await?;
        self.publish();
        self.mouth.tick();
        Ok(())
    }

    fn publish(&mut self) {
        self.book.note(self.inspector.notes());
        if let Some(picture) = self.book.picture() {
            self.mouth.local.send_replace(Some(picture));
        } else if self.mouth.local.borrow().is_none() {
            // An engine without anything is a picture, too.
            self.mouth.local.send_replace(Some(self.book.last()));
        }
    }
}
