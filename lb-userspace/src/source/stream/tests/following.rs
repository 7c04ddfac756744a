//! What arrives, whatever managers and lines do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use super::authority::Authority;
use super::cluster::{Follower, Manager, SOON, picture};
use crate::model::testing::{backend, service};
use crate::model::{Desired, Readiness};

/// 200 services of 10 tasks; those of the first have this weight.
fn large(weight: u16) -> Arc<Desired> {
    let mut desired = (*picture("web.1")).clone();
    for n in 0..200 {
        let mut backends: Vec<_> = (0..10)
            .map(|task| backend(&format!("s{n}.{task}"), "node1"))
            .collect();
        if n == 0 {
            backends.iter_mut().for_each(|backend| backend.weight = weight);
        }
        desired
            .services
            .insert(format!("s{n}").into(), Arc::new(service(9000 + n, backends)));
    }
    Arc::new(desired)
}

#[tokio::test]
async fn a_change_arrives_as_a_change() {
    let authority = Authority::new();
    let manager = Manager::start(&authority.manager("m1")).await;
    manager.publisher.publish(large(1));
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    follower.has(&large(1)).await;
    let before = follower.following.desired.borrow().clone().unwrap();
    let (full, bytes) = follower.received("full");
    assert!(full == 1 && bytes > 50_000, "{bytes}");
    let mut next = (*large(1)).clone();
    let changed = Arc::make_mut(next.services.get_mut("s7").unwrap());
    changed.backends[4].readiness = Readiness::Draining;
    manager.publisher.publish(Arc::new(next.clone()));
    follower.has(&next).await;
    let after = follower.following.desired.borrow().clone().unwrap();
    assert_eq!(follower.received("full").0, 1);
    let (_, bytes) = follower.received("diff");
    assert!(bytes < 200, "{bytes}");
    assert!(Arc::ptr_eq(&before.services["s8"], &after.services["s8"]));
}

#[tokio::test]
async fn who_comes_back_hears_what_has_changed() {
    let authority = Authority::new();
    let manager = Manager::start(&authority.manager("m1")).await;
    manager.publisher.publish(large(1));
    let line = Line::to(manager.address()).await;
    let mut follower = Follower::start(&authority.worker("w1"), &[line.address()]);
    follower.has(&large(1)).await;
    line.cut();
    follower
        .reports("the end of the connection", |report| report.connected.is_none())
        .await;
    for weight in 2..50 {
        manager.publisher.publish(large(weight));
    }
    assert_eq!(follower.following.desired.borrow().as_deref(), Some(&*large(1)));
    line.mend();
    follower.has(&large(49)).await;
    assert_eq!(follower.received("full").0, 1);
    let (updates, bytes) = follower.received("diff");
    assert!(updates == 1 && bytes < 1500, "{updates} updates, {bytes} bytes");
}

#[tokio::test]
async fn a_manager_that_goes_is_replaced_at_once_and_the_picture_stays() {
    let authority = Authority::new();
    let (one, other) = (
        Manager::telling(&authority, "web.1").await,
        Manager::telling(&authority, "web.1").await,
    );
    let mut follower = Follower::start(&authority.worker("w1"), &[one.address(), other.address()]);
    follower.has(&picture("web.1")).await;
    let at = follower
        .reports("a connection", |report| report.connected.is_some())
        .await
        .connected
        .unwrap();
    // It has been there for long enough to be a good one.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let (gone, left) = if at.manager == one.address() {
        (one, other)
    } else {
        (other, one)
    };
    let start = Instant::now();
    drop(gone);
    let there = |report: &crate::source::stream::FollowReport| {
        report
            .connected
            .as_ref()
            .is_some_and(|now| now.manager == left.address())
    };
    follower.reports("the other manager", there).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(
        follower.following.desired.borrow().as_deref(),
        Some(&*picture("web.1"))
    );
    left.publisher.publish(picture("web.2"));
    follower.has(&picture("web.2")).await;
    drop(left);
    let error = follower.error().await;
    assert!(error.contains("refused"), "{error}");
    assert_eq!(
        follower.following.desired.borrow().as_deref(),
        Some(&*picture("web.2"))
    );
}

#[tokio::test]
async fn a_manager_that_vanishes_is_missed_within_five_seconds() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let line = Line::to(manager.address()).await;
    let mut follower = Follower::start(&authority.worker("w1"), &[line.address()]);
    follower
        .reports("a connection", |report| report.connected.is_some())
        .await;
    assert_eq!(manager.figures.report().followers, 1);
    let start = Instant::now();
    line.freeze();
    follower
        .reports("the loss", |report| report.connected.is_none())
        .await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    while manager.figures.report().followers > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "the manager does not miss its follower"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_manager_that_knows_nothing_yet_is_passed_over() {
    let authority = Authority::new();
    let empty = Manager::start(&authority.manager("m1")).await;
    let mut follower = Follower::start(&authority.worker("w1"), &[empty.address()]);
    let error = follower.error().await;
    assert!(
        error.contains("does not know yet what the swarm wants"),
        "{error}"
    );
    let telling = Manager::telling(&authority, "web.1").await;
    follower
        .managers
        .send_replace(vec![empty.address(), telling.address()]);
    follower.has(&picture("web.1")).await;
}

#[tokio::test]
async fn who_is_no_manager_any_more_is_left() {
    let authority = Authority::new();
    let (one, other) = (
        Manager::telling(&authority, "web.1").await,
        Manager::telling(&authority, "web.2").await,
    );
    let mut follower = Follower::start(&authority.worker("w1"), &[one.address()]);
    follower.has(&picture("web.1")).await;
    follower.managers.send_replace(vec![other.address()]);
    follower.has(&picture("web.2")).await;
}

#[tokio::test]
async fn without_managers_it_says_so_and_waits() {
    let authority = Authority::new();
    let mut follower = Follower::start(&authority.worker("w1"), &[]);
    assert_eq!(follower.error().await, "no manager of the swarm is known");
    let manager = Manager::telling(&authority, "web.1").await;
    follower.managers.send_replace(vec![manager.address()]);
    follower.has(&picture("web.1")).await;
}

#[tokio::test]
async fn a_slow_follower_gets_the_newest_and_not_all_that_was() {
    let authority = Authority::new();
    let manager = Manager::start(&authority.manager("m1")).await;
    manager.publisher.publish(large(1));
    let line = Line::to(manager.address()).await;
    let mut follower = Follower::start(&authority.worker("w1"), &[line.address()]);
    follower.has(&large(1)).await;
    // Shorter than silence is missed.
    line.freeze();
    // About 250 kB each: more than what sockets and windows hold.
    for n in 1..100u16 {
        let mut desired = (*large(1)).clone();
        for service in desired.services.values_mut() {
            Arc::make_mut(service).naming.ttl = n.into();
        }
        manager.publisher.publish(Arc::new(desired));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    manager.publisher.publish(large(256));
    line.mend();
    follower.has(&large(256)).await;
    let (updates, _) = follower.received("diff");
    assert!((1..60).contains(&updates), "{updates}");
    assert_eq!(follower.received("full").0, 1, "it has not lost its connection");
}

/// Something between two agents that can be cut, and that can stop without a word.
struct Line {
    address: std::net::SocketAddr,
    state: tokio::sync::watch::Sender<State>,
    _task: tokio::task::JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Cut,
    Frozen,
}

impl Line {
    async fn to(manager: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = tokio::sync::watch::channel(State::Open);
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if *seen.borrow() == State::Cut {
                    continue;
                }
                let far = TcpStream::connect(manager).await.unwrap();
                let (near, far) = (near.into_split(), far.into_split());
                let cut = |mut seen: tokio::sync::watch::Receiver<State>| async move {
                    let _ = seen.wait_for(|state| *state == State::Cut).await;
                };
                let (one, other, seen) = (
                    carry(near.0, far.1, seen.clone()),
                    carry(far.0, near.1, seen.clone()),
                    seen.clone(),
                );
                lines.spawn(async move {
                    tokio::select! { () = one => {}, () = other => {}, () = cut(seen) => {} }
                });
            }
        });
        Self {
            address,
            state,
            _task: task,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: tokio::sync::watch::Receiver<State>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 4096];
    loop {
        let _ = state.wait_for(|state| *state != State::Frozen).await;
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let _ = state.wait_for(|state| *state != State::Frozen).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_stop_ends_all_connections() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    follower.has(&picture("web.1")).await;
    let figures = Arc::clone(&manager.figures);
    drop(manager);
    let start = Instant::now();
    while figures.report().followers > 0 {
        assert!(start.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    follower.error().await;
}
