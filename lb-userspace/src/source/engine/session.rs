//! One connection to the engine, from the first answer to the first that does not come.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, SystemInfo};
use bollard::query_parameters::{
    InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder,
};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Mouth;
use super::book::{Book, GATEWAY};
use super::connect::{Connected, ask, connect};
use super::events::{self, Event};
use super::problem::Reason;
use super::translate;

/// Everything is compared with what the engine lists, whatever its events have said.
const RECONCILE: Duration = Duration::from_secs(30);
/// An engine that joins or leaves a swarm has no event for it.
const IDENTIFY: Duration = Duration::from_secs(5);
/// Before what was not there yet, or could not be had, is asked for again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often the bridge of tasks is asked for again before it is left to the next comparison.
const BRIDGE_TRIES: u32 = 10;
/// Containers that are inspected at a time.
const AT_ONCE: usize = 16;
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
    let mut reader = JoinSet::new();
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    reader.spawn(read(client.clone(), podman, since, outbox));
    let mut session = Session {
        client,
        book,
        mouth,
        later: BTreeSet::new(),
        bridge_tries: 0,
        again: None,
    };
    session.compare().await?;
    mouth.content(socket);
    mouth.tick();

    let now = Instant::now();
    let mut reconcile = interval_at(now + RECONCILE, RECONCILE);
    let mut identify = interval_at(now + IDENTIFY, IDENTIFY);
    for timer in [&mut reconcile, &mut identify] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let expiry = session.book.next_expiry();
        let again = session.again;
        tokio::select! {
            event = inbox.recv() => {
                let mut batch = vec![event.unwrap_or(Err(Reason::Ended))?];
                while let Ok(event) = inbox.try_recv() {
                    batch.push(event?);
                }
                session.hear(batch).await?;
            }
            _ = reconcile.tick() => session.compare().await?,
            _ = identify.tick() => session.identify().await?,
            () = at(expiry) => session.book.expire(Instant::now()),
            () = at(again) => session.try_again().await?,
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
    /// Containers that could not be inspected.
    later: BTreeSet<Arc<str>>,
    bridge_tries: u32,
    again: Option<Instant>,
}

impl Session<'_> {
    /// What a burst of events asks for, each container once.
    async fn hear(&mut self, batch: Vec<Event>) -> Result<(), Reason> {
        let now = Instant::now();
        let (mut changed, mut cluster, mut moved) = (BTreeSet::new(), false, false);
        for event in batch {
            match event {
                Event::Container { id, task } => {
                    moved |= task || self.book.is_task(&id);
                    changed.insert(id);
                }
                Event::Signal { id, signal, task } => {
                    moved |= task;
                    if self.book.knows(&id) {
                        self.book.signal(&id, &signal, now);
                    } else {
                        changed.insert(id);
                    }
                }
                Event::Gone { id, task } => {
                    moved |= task || self.book.is_task(&id);
                    changed.remove(&id);
                    self.book.forget(&id);
                }
                Event::Cluster => cluster = true,
                Event::Other => {}
            }
        }
        let task = moved;
        moved |= cluster;
        if !changed.is_empty() {
            // What the events alone say is not kept waiting.
            self.publish();
            self.inspect(changed).await?;
        }
        if cluster {
            self.identify().await?;
        }
        if task {
            self.bridge_tries = 0;
            self.bridge().await?;
        }
        self.publish();
        if moved {
            self.mouth.tick();
        }
        Ok(())
    }

    /// Compares everything with the engine's list.
    async fn compare(&mut self) -> Result<(), Reason> {
        self.identify().await?;
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = ask("GET /containers/json", self.client.list_containers(Some(options))).await?;
        let ids: HashSet<&str> = listed.iter().filter_map(|entry| entry.id.as_deref()).collect();
        self.book.keep_only(&ids);
        let differ = listed.iter().filter(|entry| !self.book.agrees(entry));
        let differ = differ.filter_map(|entry| entry.id.as_deref()).map(Arc::from);
        let differ: BTreeSet<Arc<str>> = differ.collect();
        self.inspect(differ).await?;
        self.bridge_tries = 0;
        self.bridge().await?;
        self.publish();
        Ok(())
    }

    async fn identify(&mut self) -> Result<(), Reason> {
        match ask("GET /info", self.client.info()).await {
            Ok(info) => self.book.identify(&info),
            // Containers can be followed without it.
            Err(Reason::Nonsense { request, reason }) => {
                tracing::debug!(
                    request,
                    reason,
                    "the engine does not say whether it is in a swarm"
                );
                self.book.identify(&SystemInfo::default());
            }
            Err(reason) => return Err(reason),
        }
        Ok(())
    }

    async fn inspect(&mut self, ids: BTreeSet<Arc<str>>) -> Result<(), Reason> {
        let client = &self.client.clone();
        let asked = ids.into_iter().map(|id| async move {
            let answer = inspect(client, &id).await;
            (id, answer)
        });
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((id, answer)) = answers.next().await {
            self.later.remove(&id);
            match answer {
                Ok(Some(inspected)) => {
                    if let Some(inspected) = translate::container(inspected) {
                        self.book.learn(inspected);
                    }
                }
                Ok(None) => self.book.forget(&id),
                // One container is not the engine.
                Err(reason @ (Reason::Refused { .. } | Reason::Nonsense { .. })) => {
                    tracing::warn!(container = translate::short(&id), %reason, "a container stays as it was last seen");
                    if matches!(reason, Reason::Refused { .. }) {
                        self.later.insert(id);
                    }
                }
                Err(reason) => return Err(reason),
            }
        }
        self.rearm();
        Ok(())
    }

    /// Where tasks of a swarm are reached from this machine.
    async fn bridge(&mut self) -> Result<(), Reason> {
        if !self.book.is_in_swarm() {
            self.book.bridge(None);
            return Ok(());
        }
        let network = self
            .client
            .inspect_network(GATEWAY, None::<InspectNetworkOptions>);
        match ask("GET /networks/docker_gwbridge", network).await {
            Ok(network) => self.book.bridge(Some(network)),
            Err(Reason::Refused { status: 404, .. }) => self.book.bridge(None),
            Err(reason) => return Err(reason),
        }
        self.bridge_tries += 1;
        self.rearm();
        Ok(())
    }

    async fn try_again(&mut self) -> Result<(), Reason> {
        self.again = None;
        let later = std::mem::take(&mut self.later);
        if !later.is_empty() {
            self.inspect(later).await?;
        }
        if self.lacks_bridge() {
            self.bridge().await?;
            self.publish();
            self.mouth.tick();
        }
        Ok(())
    }

    fn lacks_bridge(&self) -> bool {
        self.book.is_in_swarm() && self.bridge_tries < BRIDGE_TRIES && self.book.lacks_gateway()
    }

    fn rearm(&mut self) {
        let needed = !self.later.is_empty() || self.lacks_bridge();
        self.again = needed.then(|| Instant::now() + AGAIN);
    }

    fn publish(&mut self) {
        let first = self.mouth.local.borrow().is_none();
        let picture = self.book.picture();
        if let Some(picture) = picture {
            self.mouth.local.send_replace(Some(picture));
        } else if first {
            // An engine without anything is a picture, too.
            self.mouth.local.send_replace(Some(Arc::default()));
        }
    }
}

/// `None` where there is no such container by now.
async fn inspect(client: &Docker, id: &str) -> Result<Option<ContainerInspectResponse>, Reason> {
    let answer = async {
        match client
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
        {
            Ok(inspected) => Ok(Some(inspected)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    ask("GET /containers/ID/json", answer).await
}
