//! Handshakes that are finished before they are needed.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cluster::{CLIENT, FRONT, Listening, Owner, SECRET, SOON, TAG, node};
use crate::door::Door;
use crate::plane::proxy::relay::limits::{HANDS, SPARE, SPARES};
use crate::plane::proxy::relay::{Dialer, Relay, Relayed};
use crate::plane::proxy::udp::trunk::Call;

async fn ask(dialer: &Dialer) -> Relayed {
    let (client, front) = (CLIENT.parse().unwrap(), FRONT.parse().unwrap());
    dialer
        .dial(&node("node2", 2), TAG, client, front, SOON)
        .await
        .unwrap()
}

async fn stocked(dialer: &Dialer) {
    let stocked = timeout(SOON, async {
        while dialer.spares() < SPARES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    stocked.await.unwrap();
}

fn waited_and_spared(relay: &Relay) -> (u64, u64) {
    let report = relay.report();
    (report.waited, report.spared)
}

#[tokio::test]
async fn the_second_client_waits_for_no_handshake() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let dialer = caller.dialer();
    let mut connections = vec![ask(&dialer).await];
    assert_eq!(waited_and_spared(&caller), (1, 0));
    for turn in 1..=3 {
        stocked(&dialer).await;
        connections.push(ask(&dialer).await);
        assert_eq!(waited_and_spared(&caller), (1, turn));
    }
    // Each is a connection of its own.
    for relayed in &mut connections {
        let mut task = listening.accept().await;
        task.write_all(b"x").await.unwrap();
        assert_eq!(relayed.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn a_spare_that_has_died_is_replaced() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let dialer = caller.dialer();
    drop(ask(&dialer).await);
    stocked(&dialer).await;
    dialer.kill_spares();
    let _relayed = ask(&dialer).await;
    assert_eq!(waited_and_spared(&caller), (2, 0));
    stocked(&dialer).await;
    let _relayed = ask(&dialer).await;
    assert_eq!(waited_and_spared(&caller), (2, 1));
}

#[tokio::test]
async fn later_handshakes_are_short() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let dialer = owner.caller("node1", SECRET).dialer();
    assert!(!ask(&dialer).await.is_resumed());
    for _ in 0..2 * SPARES {
        stocked(&dialer).await;
        drop(ask(&dialer).await);
    }
    stocked(&dialer).await;
    assert!(ask(&dialer).await.is_resumed());
}

#[tokio::test]
async fn for_a_node_that_nobody_asks_for_none_are_kept() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let dialer = owner.caller("node1", SECRET).dialer();
    drop(ask(&dialer).await);
    stocked(&dialer).await;
    tokio::time::pause();
    tokio::time::advance(SPARE).await;
    let gone = timeout(SOON, async {
        while dialer.spares() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_all_served_and_nothing_is_left() {
    const MANY: usize = 100;
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let dialer = owner.caller("node1", SECRET).dialer();
    let task = tokio::spawn(async move {
        for _ in 0..MANY {
            let mut task = listening.accept().await;
            tokio::spawn(async move {
                let (mut from, mut to) = task.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            });
        }
        listening
    });
    let mut clients = JoinSet::new();
    for at in 0..MANY {
        let dialer = dialer.clone();
        clients.spawn(async move {
            let mut relayed = ask(&dialer).await;
            let said = format!("client {at}").repeat(10_000);
            let (mut from, mut to) = tokio::io::split(&mut relayed);
            let mut heard = String::new();
            let say = async {
                to.write_all(said.as_bytes()).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let (_, read) = tokio::join!(say, from.read_to_string(&mut heard));
            read.unwrap();
            assert!(heard == said, "{at} heard {} of {}", heard.len(), said.len());
        });
    }
    timeout(SOON, clients.join_all()).await.unwrap();
    task.await.unwrap();
    let over = timeout(SOON, async {
        while owner.relay.report().carried > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    over.await.unwrap();
    assert_eq!(owner.relay.report().cut, 0);
}

/// However many clients wait for it.
#[tokio::test]
async fn a_node_that_says_nothing_keeps_nobody_from_another_one() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let dialer = caller.dialer();
    // Its kernel accepts, and nobody answers.
    let _silent = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), owner.port))
        .await
        .unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..2 * HANDS {
        let dialer = dialer.clone();
        let (client, front) = (CLIENT.parse().unwrap(), FRONT.parse().unwrap());
        clients.spawn(async move {
            let silent = node("node3", 3);
            dialer.dial(&silent, TAG, client, front, 10 * SOON).await
        });
    }
    while waited_and_spared(&caller).0 < 2 * HANDS as u64 {
        tokio::task::yield_now().await;
    }
    let _relayed = ask(&dialer).await;
    stocked(&dialer).await;
    dialer.call(&node("node2", 2)).await.unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_told_of_until_it_can_be() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let (relay, at) = (owner.relay.clone(), (Ipv4Addr::new(127, 0, 0, 2), owner.port));
    drop(owner);
    while TcpStream::connect(at).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dialer = caller.dialer();
    let until = async |wanted: &[&str]| {
        let told = timeout(SOON, async {
            loop {
                let unreachable = caller.report().unreachable;
                if unreachable.iter().map(|of| &*of.node).eq(wanted.iter().copied()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(told.await.is_ok(), "{:?}", caller.report());
    };
    let (client, front) = (CLIENT.parse().unwrap(), FRONT.parse().unwrap());
    let asked = dialer.dial(&node("node2", 2), TAG, client, front, SOON).await;
    assert!(asked.is_err());
    until(&["node2"]).await;
    // Nobody asks for it any more, and it is still tried.
    tokio::time::pause();
    tokio::time::advance(2 * SPARE).await;
    tokio::time::resume();
    until(&["node2"]).await;
    let _offer = Door::new(at.into()).offer(relay.room());
    until(&[]).await;
}

/// The agent that has its clients now tries it, and tells of it.
#[tokio::test]
async fn an_agent_without_clients_tries_no_node_that_cannot_be_reached() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let dialer = caller.dialer();
    let until = async |is_so: &dyn Fn() -> bool| {
        let is_so = timeout(SOON, async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(is_so.await.is_ok(), "{:?}", caller.report());
    };
    // Nobody listens there.
    let (client, front) = (CLIENT.parse().unwrap(), FRONT.parse().unwrap());
    let asked = dialer.dial(&node("node3", 3), TAG, client, front, SOON).await;
    assert!(asked.is_err());
    until(&|| !caller.report().unreachable.is_empty()).await;
    tokio::time::pause();
    tokio::time::advance(2 * SPARE).await;
    tokio::time::resume();
    assert_eq!(dialer.shelves.nodes(), 1);
    caller.retire();
    until(&|| dialer.shelves.nodes() == 0).await;
}
