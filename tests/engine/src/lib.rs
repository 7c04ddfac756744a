//! A Docker engine for tests and benchmarks. It listens on a unix socket and answers as a recorded engine did (Docker 20.10, files
//! under `recorded/`), with as many containers as one likes, and tells events about what is changed.
//!
//! It runs in a thread of its own, so that it can vanish in the midst of an answer, as a killed engine does.

mod answer;
mod container;
mod fault;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};

pub use container::Container;
pub use fault::Fault;

/// Recorded answers, by the path that was asked for.
const RECORDED: [(&str, &str); 3] = [
    ("/version", include_str!("../recorded/version.json")),
    ("/info", include_str!("../recorded/info.json")),
    ("/networks", include_str!("../recorded/networks.json")),
];

/// The engine. It ends, and its socket vanishes, when it is dropped.
pub struct Engine {
    socket: PathBuf,
    state: Arc<State>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What it knows; outlives a restart.
struct State {
    known: Mutex<Known>,
    events: broadcast::Sender<Arc<str>>,
}

#[derive(Default)]
struct Known {
    containers: BTreeMap<String, Container>,
    /// By path, without the version of the API.
    answers: BTreeMap<String, Value>,
    /// By the beginning of a path.
    faults: BTreeMap<String, Fault>,
    asked: Vec<String>,
    /// Bytes, by path.
    sent: BTreeMap<String, usize>,
}

impl Engine {
    /// Starts one without containers.
    pub fn start(socket: &Path) -> io::Result<Self> {
        let answers = RECORDED.map(|(path, text)| {
            let answer = serde_json::from_str(text).expect("what was recorded is JSON");
            (path.to_owned(), answer)
        });
        let known = Known {
            answers: answers.into(),
            ..Known::default()
        };
        let mut engine = Self {
            socket: socket.to_owned(),
            state: Arc::new(State {
                known: Mutex::new(known),
                events: broadcast::channel(65_536).0,
            }),
            running: None,
        };
        engine.come_back()?;
        Ok(engine)
    }

    /// As if it were killed: open answers end, and nobody listens any more.
    pub fn vanish(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Starts again with all that it had. What happened meanwhile is told by no event.
    pub fn come_back(&mut self) -> io::Result<()> {
        self.vanish();
        self.running = Some(answer::serve(&self.socket, Arc::clone(&self.state))?);
        Ok(())
    }

    /// Adds or replaces a container, and says so by this event: `create`, `start`, `die`, `health_status: unhealthy`, ...
    pub fn change(&self, container: Container, action: &str) {
        let event = container.event(action, &[]);
        self.known().containers.insert(container.id.clone(), container);
        self.tell(&event);
    }

    /// Adds or replaces containers, and tells nobody.
    pub fn put(&self, containers: impl IntoIterator<Item = Container>) {
        let containers = containers.into_iter();
        self.known()
            .containers
            .extend(containers.map(|container| (container.id.clone(), container)));
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<Container> {
        let known = self.known();
        known
            .containers
            .values()
            .find(|container| container.name == name)
            .cloned()
    }

    /// Removes a container and says so.
    pub fn remove(&self, id: &str) {
        let removed = self.known().containers.remove(id);
        if let Some(container) = removed {
            self.tell(&container.event("destroy", &[]));
        }
    }

    /// A container is sent a signal, and goes on.
    pub fn signal(&self, container: &Container, signal: u8) {
        self.tell(&container.event("kill", &[("signal", signal.to_string())]));
    }

    /// Any event.
    pub fn tell(&self, event: &Value) {
        // Nobody need listen.
        let _ = self.state.events.send(format!("{event}\n").into());
    }

    /// An event about a service, node or network of a swarm.
    pub fn tell_of(&self, kind: &str, action: &str, id: &str) {
        self.tell(&json!({
            "Type": kind, "Action": action, "Actor": { "ID": id, "Attributes": { "name": id } },
            "scope": "swarm", "time": 1_795_219_031, "timeNano": 1_795_219_031_653_156_166_u64,
        }));
    }

    /// What a path answers from now on, as `/services`; answers about containers are made.
    pub fn answer(&self, path: &str, answer: Value) {
        self.known().answers.insert(path.to_owned(), answer);
    }

    /// Lets all requests whose path, with what it is asked for, begins so fail; `None`: no longer.
    pub fn fail(&self, path: &str, fault: Option<Fault>) {
        let mut known = self.known();
        match fault {
            Some(fault) => known.faults.insert(path.to_owned(), fault),
            None => known.faults.remove(path),
        };
    }

    /// How often paths that begin so have been asked for.
    pub fn asked(&self, path: &str) -> usize {
        let known = self.known();
        known.asked.iter().filter(|asked| asked.starts_with(path)).count()
    }

    /// How many bytes it has answered to this path.
    pub fn sent(&self, path: &str) -> usize {
        self.known().sent.get(path).copied().unwrap_or(0)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.known()
    }
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        // A test that panicked while it held the lock has failed already.
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.vanish();
    }
}
