use super::*;
use crate::model::testing::{backend, web};
use crate::model::{Desired, DrainObject, Identity, Standing};

/// An agent's control side at its own loopback address, all on one port as in a cluster.
struct Agent {
    writer: Writer,
    view: View,
    health: watch::Sender<Arc<HealthReport>>,
    reports: watch::Receiver<PeerReports>,
    heartbeats: JoinHandle<()>,
}

/// As [`start`], at one address instead of all: three agents on one machine.
async fn start_at(address: Ipv4Addr, setup: Setup) -> (watch::Receiver<PeerReports>, JoinHandle<()>) {
    let socket = UdpSocket::bind((address, setup.port)).await.unwrap();
    run_on(socket, setup)
}

impl Agent {
    async fn start(n: u8, port: u16, secret: u8) -> Self {
        let identity = Identity::new([0; 32]);
        let (writer, _) = Writer::start(identity, ["file".into()], Drains::default());
        let (health, findings) = watch::channel(Arc::new(HealthReport {
            settled: true,
            ..HealthReport::default()
        }));
        let node = format!("node{n}").into();
        let setup = Setup {
            node,
            port,
            mac: [secret; 32],
            programs: Programs {
                never: false,
                later: false,
                applied: watch::channel(0).1,
            },
            by_proxy: BTreeSet::new(),
            writer: writer.clone(),
            health: findings,
        };
        let (reports, heartbeats) = start_at(address(n), setup).await;
        writer.source("file".into(), Arc::new(cluster())).await.unwrap();
        Self {
            view: writer.view(),
            writer,
            health,
            reports,
            heartbeats,
        }
    }

    async fn until(&mut self, reached: impl Fn(&Snapshot) -> bool) {
        let waiting = async {
            while !reached(&self.view.current()) {
                self.view.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .expect("not reached in ten seconds");
    }

    async fn finds(&mut self, node: &str, presence: Presence) {
        let found = self
            .reports
            .wait_for(|reports| reports.get(node).is_some_and(|peer| peer.presence == presence));
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("not found so in ten seconds")
            .unwrap();
    }

    async fn hears(&mut self, node: &str) {
        let heard = self
            .reports
            .wait_for(|reports| reports.get(node).is_some_and(|peer| peer.heard.is_some()));
        tokio::time::timeout(Duration::from_secs(10), heard)
            .await
            .expect("not heard in ten seconds")
            .unwrap();
    }
}

fn cluster() -> Desired {
    let mut desired = web(vec![backend("web.1", "node1"), backend("web.2", "node2")]);
    for (n, node) in desired.nodes.values_mut().enumerate() {
        node.address = address(n as u8 + 1);
    }
    desired
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 79, 50, n)
}

/// A port that nobody has on any of the addresses.
async fn free_port() -> u16 {
    UdpSocket::bind((address(250), 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn what_one_agent_knows_all_agents_follow() {
    let port = free_port().await;
    let (mut one, mut two) = (Agent::start(1, port, 1).await, Agent::start(2, port, 1).await);
    one.hears("node2").await;
    two.hears("node1").await;

    // Health, by the owner only.
    let tag = |task| Identity::new([0; 32]).backend("web", task);
    let unhealthy: BTreeSet<u64> = [tag("web.1"), tag("web.2")].into();
    two.health.send_replace(Arc::new(HealthReport {
        unhealthy,
        settled: true,
        ..HealthReport::default()
    }));
    one.until(|snapshot| snapshot.services["web"].backends[1].standing == Standing::Unhealthy)
        .await;
    assert_eq!(
        one.view.current().services["web"].backends[0].standing,
        Standing::Active
    );

    // An operator's command.
    one.writer
        .drain(DrainObject::Node("node1".into()), true)
        .await
        .unwrap();
    two.until(|snapshot| snapshot.nodes["node1"].draining).await;
    two.writer
        .drain(DrainObject::Node("node1".into()), false)
        .await
        .unwrap();
    one.until(|snapshot| !snapshot.nodes["node1"].draining).await;

    // Its agent ends, and its kernel refuses heartbeats.
    two.heartbeats.abort();
    one.finds("node2", Presence::Away).await;
    tokio::time::sleep(roster::REFUSAL * 2).await;
    assert_eq!(one.reports.borrow()["node2"].presence, Presence::Away);

    // Silence: nobody refuses them any more.
    let mute = UdpSocket::bind((address(2), port)).await.unwrap();
    let silent = Instant::now();
    one.until(|snapshot| snapshot.nodes["node2"].suspected).await;
    let took = silent.elapsed();
    assert!(took < roster::REFUSAL + Duration::from_secs(1), "{took:?}");

    // A new life.
    drop((mute, two));
    let _two = Agent::start(2, port, 1).await;
    one.until(|snapshot| !snapshot.nodes["node2"].suspected).await;
    one.finds("node2", Presence::Heard).await;
    // Nobody ever ran there, and its kernel says so.
    one.finds("node3", Presence::Away).await;
    assert!(!one.view.current().nodes["node3"].suspected);
}

#[tokio::test]
async fn an_agent_that_falls_silent_without_a_refusal_is_suspected_at_once() {
    let port = free_port().await;
    let (mut one, mut two) = (Agent::start(1, port, 1).await, Agent::start(2, port, 1).await);
    one.hears("node2").await;
    two.hears("node1").await;
    // Stopped, as it were, with its socket open.
    let alone = Desired {
        nodes: [("node2".into(), cluster().nodes["node2"])].into(),
        ..Desired::default()
    };
    two.writer.source("file".into(), Arc::new(alone)).await.unwrap();
    let silent = Instant::now();
    one.until(|snapshot| snapshot.nodes["node2"].suspected).await;
    let took = silent.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn another_clusters_agent_is_not_heard() {
    let port = free_port().await;
    let (one, mut two) = (Agent::start(1, port, 1).await, Agent::start(2, port, 2).await);
    two.until(|snapshot| snapshot.generation > 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(one.reports.borrow()["node2"].heard.is_none());
}
