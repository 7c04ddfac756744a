//! The container engine of this node: Docker, or what speaks its API.
//!
//! One connection that everybody shares. It knows containers and whether the engine is in a swarm; what is made of them is
//! the business of `source::docker` and `source::swarm`.

mod agreement;
mod book;
mod connect;
mod events;
mod identify;
mod inspect;
pub mod instant;
pub mod local;
mod problem;
mod session;
mod stopping;
mod translate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use connect::ask;
pub use local::{Container, Health, Joined, Local, Manager, Membership, Published, Run};
pub use problem::{Problem, Reason};

use super::backoff::Backoff;

/// Waiting before the next attempt to reach the engine.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The engine as everybody but its own task sees it. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    socket: Arc<Path>,
    local: watch::Receiver<Option<Arc<Local>>>,
    client: watch::Receiver<Option<Docker>>,
    moved: watch::Receiver<u64>,
    problem: watch::Receiver<Option<Problem>>,
}

/// The other ends.
struct Mouth {
    local: watch::Sender<Option<Arc<Local>>>,
    client: watch::Sender<Option<Docker>>,
    moved: watch::Sender<u64>,
    problem: watch::Sender<Option<Problem>>,
}

impl Engine {
    /// Follows the engine behind `socket` until the task is aborted.
    pub fn start(socket: PathBuf) -> (Self, JoinHandle<()>) {
        let (local, locals) = watch::channel(None);
        let (client, clients) = watch::channel(None);
        let (moved, moves) = watch::channel(0);
        let (problem, problems) = watch::channel(None);
        let mouth = Mouth {
            local,
            client,
            moved,
            problem,
        };
        let engine = Self {
            socket: socket.as_path().into(),
            local: locals,
            client: clients,
            moved: moves,
            problem: problems,
        };
        (engine, tokio::spawn(follow(socket, mouth)))
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// For requests of one's own, each through [`ask`]; `None` until the engine has been reached. It is good for later
    /// connections, too: each request is one.
    pub fn client(&self) -> Option<Docker> {
        self.client.borrow().clone()
    }

    /// What the engine says of itself and its containers; `None` until it has. The last picture stays while it is away.
    pub fn local(&self) -> watch::Receiver<Option<Arc<Local>>> {
        self.local.clone()
    }

    /// Counts up whenever something about services, nodes, networks or a task's container happened, and whenever the engine was
    /// reached anew: what was listed before may be old.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.clone()
    }

    /// Why the engine cannot be followed at present.
    pub fn problem(&self) -> watch::Receiver<Option<Problem>> {
        self.problem.clone()
    }
}

async fn follow(socket: PathBuf, mouth: Mouth) {
    let mut backoff = Backoff::new(SHORTEST, LONGEST);
    let mut book = book::Book::default();
    loop {
        let start = Instant::now();
        let reason = session::run(&socket, &mut book, &mouth).await;
        // One that lasted was a good one: what follows is a restart, not a lasting failure.
        if start.elapsed() >= session::GOOD && mouth.problem.borrow().is_none() {
            backoff.reset();
        }
        mouth.complain(&socket, reason);
        sleep(backoff.pause()).await;
    }
}

impl Mouth {
    fn complain(&self, socket: &Path, reason: Reason) {
        let problem = Problem {
            socket: socket.to_owned(),
            reason,
            served: self.local.borrow().is_some(),
        };
        // Tried again and again, told once.
        self.problem.send_if_modified(|told| {
            let news = told.as_ref() != Some(&problem);
            if news {
                tracing::warn!("{problem}");
                *told = Some(problem);
            }
            news
        });
    }

    fn content(&self, socket: &Path) {
        self.problem.send_if_modified(|told| {
            let news = told.take().is_some();
            if news {
                tracing::info!(socket = %socket.display(), "the container engine is followed again");
            }
            news
        });
    }

    fn tick(&self) {
        self.moved.send_modify(|count| *count += 1);
    }
}
