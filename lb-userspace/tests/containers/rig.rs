//! A simulated engine and who follows it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{Container, Engine as Simulated};
use lb_userspace::source::engine::{Engine, Local, Problem};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    pub simulated: Simulated,
    pub engine: Engine,
    following: JoinHandle<()>,
}

impl Rig {
    /// With these containers from the start.
    pub async fn with(containers: impl IntoIterator<Item = Container>) -> Self {
        let rig = Self::prepared(|simulated| simulated.put(containers)).await;
        rig.until(|local| local.containers.len() == rig.simulated.asked_containers())
            .await;
        rig.is_heard().await;
        rig
    }

    /// An engine that was prepared before anybody asked it.
    pub async fn prepared(prepare: impl FnOnce(&Simulated)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let simulated = Simulated::start(&socket).unwrap();
        prepare(&simulated);
        let (engine, following) = Engine::start(socket.clone());
        Self {
            _directory: directory,
            socket,
            simulated,
            engine,
            following,
        }
    }

    /// Waits until the events are listened to: the simulated engine keeps none for later.
    pub async fn is_heard(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.simulated.asked("/events") == 0 {
            assert!(Instant::now() < deadline, "nobody asks for events");
            sleep(Duration::from_millis(2)).await;
        }
        sleep(Duration::from_millis(20)).await;
    }

    /// The first picture that is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Local) -> bool) -> Arc<Local> {
        let mut local = self.engine.local();
        let waiting = local.wait_for(|local| local.as_deref().is_some_and(&wanted));
        let picture = timeout(PATIENCE, waiting)
            .await
            .map(|picture| picture.unwrap().clone().unwrap());
        picture.unwrap_or_else(|_| panic!("the picture stays {:#?}", self.engine.local().borrow()))
    }

    /// The first problem that is as wanted.
    pub async fn problem(&self, wanted: impl Fn(Option<&Problem>) -> bool) -> Option<Problem> {
        let mut problem = self.engine.problem();
        let waiting = problem.wait_for(|problem| wanted(problem.as_ref()));
        timeout(PATIENCE, waiting)
            .await
            .expect("no such problem")
            .unwrap()
            .clone()
    }

    pub fn socket(&self) -> String {
        self.socket.display().to_string()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.following.abort();
    }
}

trait Counted {
    fn asked_containers(&self) -> usize;
}

impl Counted for Simulated {
    /// Containers that were put before anything was asked.
    fn asked_containers(&self) -> usize {
        (1..)
            .take_while(|number| self.container(&name(*number)).is_some())
            .count()
    }
}

/// Replicas of one Compose service.
pub fn replicas(count: u32) -> impl Iterator<Item = Container> {
    (1..=count).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(172, 18, high + 1, low));
        Container::of_compose("shop", "web", number, address)
    })
}

pub fn name(number: u32) -> String {
    format!("shop_web_{number}")
}
