//! Nodes, tasks and clients over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_common::placement::{Candidate, State};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::door::{Door, Offer};
use crate::model::{Affinity, Family, Member, Node, Pool, Snapshot, View};
use crate::plane::proxy::live::Live;
use crate::plane::proxy::relay::{Failure, Lane, Relay, RelayReport, Relayed, Setup, limits};
use crate::plane::proxy::udp;

pub const SECRET: [u8; 32] = [7; 32];
/// Of the task at the owner's.
pub const TAG: u64 = 7;
/// What is long enough for anything that happens at once.
pub const SOON: Duration = Duration::from_secs(10);
pub const CLIENT: &str = "192.0.2.77:4711";
pub const FRONT: &str = "198.51.100.1:8080";

/// A member of the only service.
#[derive(Clone, Copy)]
pub struct Task {
    pub tag: u64,
    pub node: &'static str,
    pub port: u16,
    pub state: State,
}

/// All of one target port, at loopback.
pub fn member(tasks: &[Task]) -> Pool {
    let members = tasks.iter().map(|task| Member {
        task: format!("web.{}", task.tag).into(),
        node: task.node.into(),
        address: Ipv4Addr::LOCALHOST.into(),
        candidate: Candidate {
            tag: task.tag,
            node: 1,
            weight: 1,
            peak: 1,
            state: task.state,
            first: 0,
            last: u64::MAX,
            seen_first: 0,
            seen_last: u64::MAX,
        },
    });
    Pool {
        id: 1,
        service: "web".into(),
        target_port: tasks.first().map_or(0, |task| task.port),
        family: Family::V4,
        slots: 64,
        affinity: Affinity::None,
        frontends: Vec::new(),
        members: members.collect(),
    }
}

/// Nodes node1 to node3 at 127.0.0.1 to 127.0.0.3.
pub fn snapshot(pools: Vec<Pool>) -> Snapshot {
    let nodes = (1..=3).map(|n| {
        let name: Arc<str> = format!("node{n}").into();
        (Arc::clone(&name), node(&name, n))
    });
    Snapshot {
        generation: 1,
        nodes: nodes.collect(),
        pools: pools.into_iter().map(Arc::new).collect(),
        ..Snapshot::default()
    }
}

pub fn node(name: &str, last: u8) -> Node {
    Node {
        name: name.into(),
        tag: last.into(),
        address: Ipv4Addr::new(127, 0, 0, last),
        draining: false,
        suspected: false,
        by_proxy: false,
    }
}

/// The node that runs the task.
pub struct Owner {
    pub relay: Relay,
    /// Knows nothing yet.
    pub live: Arc<Live>,
    pub port: u16,
    _offer: Offer,
}

impl Owner {
    /// `node2`, with a task that listens at a port of loopback.
    pub async fn of(task: SocketAddr) -> Self {
        Self::with(&[Task {
            tag: TAG,
            node: "node2",
            port: task.port(),
            state: State::Active,
        }])
        .await
    }

    pub async fn with(tasks: &[Task]) -> Self {
        Self::knowing(snapshot(vec![member(tasks)])).await
    }

    /// With what this has for `node2`.
    pub async fn knowing(snapshot: Snapshot) -> Self {
        Self::bounded(snapshot, limits::CALLERS, limits::ASKING).await
    }

    /// That lets so many callers wait at a time before they ask for something, and so long.
    pub async fn bounded(snapshot: Snapshot, callers: usize, asking: Duration) -> Self {
        let relay = relay("node2", SECRET, 0, View::fixed(snapshot));
        let live = Arc::<Live>::default();
        let mut lane = relay.lane();
        (lane.waiting, lane.asking) = (Arc::new(Semaphore::new(callers)), asking);
        run(&relay, lane, Arc::clone(&live));
        let door = Door::new((Ipv4Addr::new(127, 0, 0, 2), 0).into());
        let offer = door.offer(relay.room());
        Self {
            port: door.address().await.unwrap().port(),
            relay,
            live,
            _offer: offer,
        }
    }

    /// The relay of another node that is to call this one.
    pub fn caller(&self, name: &str, secret: [u8; 32]) -> Relay {
        relay(name, secret, self.port, View::fixed(snapshot(Vec::new())))
    }

    pub async fn has_refused(&self, label: &str) {
        self.has(label, |report| report.refused[label]).await;
    }

    /// Once, to the caller that has the answer already.
    pub async fn has_answered(&self, label: &str) {
        self.has(label, |report| report.answered[label]).await;
    }

    async fn has(&self, what: &str, count: impl Fn(&RelayReport) -> u64) {
        let seen = tokio::time::timeout(SOON, async {
            while count(&self.relay.report()) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(
            seen.await.is_ok(),
            "{:?} while waiting for {what}",
            self.relay.report()
        );
    }
}

fn relay(node: &str, authority: [u8; 32], port: u16, view: View) -> Relay {
    let setup = Setup {
        node: node.into(),
        authority,
        port,
        view,
        keepalive: Duration::from_secs(60),
    };
    Relay::new(setup).unwrap()
}

/// On a thread of its own, as a worker does.
fn run(relay: &Relay, lane: Lane, live: Arc<Live>) {
    let relay = relay.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let udp = udp::Worker::new(
            &udp::Shared::new(udp::Bounds::default(), Arc::default()),
            Rc::new(relay.dialer()),
        );
        let ways = Arc::default();
        LocalSet::new().block_on(&runtime, lane.run(live, ways, udp));
    });
}

/// Asks node2 for the task as a client of this relay.
pub async fn dial(relay: &Relay, tag: u64) -> Result<Relayed, Failure> {
    let dialer = relay.dialer();
    let (client, front) = (CLIENT.parse().unwrap(), FRONT.parse().unwrap());
    dialer.dial(&node("node2", 2), tag, client, front, SOON).await
}

/// A task and what it accepts.
pub struct Listening(TcpListener);

impl Listening {
    pub async fn new() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }
}
