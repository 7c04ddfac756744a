//! What arrives.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::Duration;

use lb_common::placement::State;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, server};

use super::cluster::{Listening, Owner, SECRET, SOON, TAG, Task, dial, member as member_of, snapshot};
use crate::plane::proxy::relay::carry::{Breach, Passed, carry};
use crate::plane::proxy::relay::identity::{self, Identity};
use crate::plane::proxy::relay::wire::Wire;
use crate::plane::proxy::relay::{Failure, Relayed};
use crate::plane::proxy::socket::keepalive;

/// A client's connection as it leaves node1, and as its task on node2 has it.
async fn connected() -> (Owner, Relayed, TcpStream) {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let relayed = dial(&owner.caller("node1", SECRET), TAG).await.unwrap();
    let task = listening.accept().await;
    (owner, relayed, task)
}

/// Nothing is left of the connection at its owner's.
async fn is_over(owner: &Owner, cut: u64) {
    let over = timeout(SOON, async {
        while owner.relay.report().carried > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(over.await.is_ok(), "{:?}", owner.relay.report());
    assert_eq!(owner.relay.report().cut, cut);
}

#[tokio::test]
async fn bytes_are_carried_both_ways() {
    let (owner, mut relayed, mut task) = connected().await;
    relayed.write_all(b"from the client").await.unwrap();
    relayed.flush().await.unwrap();
    let mut bytes = [0; 15];
    task.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"from the client");
    task.write_all(b"from the task!!").await.unwrap();
    relayed.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"from the task!!");
    assert_eq!(owner.relay.report().carried, 1);
    drop(task);
    assert_eq!(relayed.read(&mut bytes).await.unwrap(), 0);
    relayed.shutdown().await.unwrap();
    is_over(&owner, 0).await;
}

#[tokio::test]
async fn much_is_carried_whole_both_ways_at_once() {
    const MUCH: usize = 8 << 20;
    let (_owner, relayed, task) = connected().await;
    let (mut from_node, mut to_node) = tokio::io::split(relayed);
    let (mut from_client, mut to_client) = task.into_split();
    let pattern = |n: usize| (n % 251) as u8;
    let sent: Vec<u8> = (0..MUCH).map(pattern).collect();
    let (mut heard, mut told) = (Vec::new(), Vec::new());
    let up = async {
        to_node.write_all(&sent).await.unwrap();
        to_node.shutdown().await.unwrap();
    };
    let down = async {
        to_client.write_all(&sent).await.unwrap();
        to_client.shutdown().await.unwrap();
    };
    let both = async {
        let (a, b) = tokio::join!(
            from_client.read_to_end(&mut heard),
            from_node.read_to_end(&mut told)
        );
        a.unwrap();
        b.unwrap();
    };
    timeout(SOON, async { tokio::join!(up, down, both) })
        .await
        .unwrap();
    assert!(
        heard == sent && told == sent,
        "{} and {}",
        heard.len(),
        told.len()
    );
}

#[tokio::test]
async fn a_side_that_has_said_all_hears_the_rest() {
    let (owner, mut relayed, mut task) = connected().await;
    relayed.write_all(b"a question").await.unwrap();
    relayed.shutdown().await.unwrap();
    let mut question = Vec::new();
    task.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"a question");
    for _ in 0..3 {
        task.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        relayed.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"an answer");
    }
    drop(task);
    assert_eq!(relayed.read(&mut [0; 16]).await.unwrap(), 0);
    is_over(&owner, 0).await;

    let (owner, mut relayed, mut task) = connected().await;
    task.shutdown().await.unwrap();
    assert_eq!(relayed.read(&mut [0; 16]).await.unwrap(), 0);
    relayed.write_all(b"still here").await.unwrap();
    relayed.shutdown().await.unwrap();
    let mut rest = Vec::new();
    task.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"still here");
    is_over(&owner, 0).await;
}

#[tokio::test]
async fn a_reset_of_the_client_resets_the_task() {
    let (owner, relayed, mut task) = connected().await;
    drop(relayed);
    let error = timeout(SOON, task.read(&mut [0; 16])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    is_over(&owner, 1).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_and_vanishes_resets_the_task() {
    let (owner, mut relayed, mut task) = connected().await;
    relayed.shutdown().await.unwrap();
    assert_eq!(task.read(&mut [0; 16]).await.unwrap(), 0);
    drop(relayed);
    // The task has nothing to say, and does not find out by that.
    is_over(&owner, 1).await;
    let error = timeout(SOON, task.write_all(b"too late")).await.unwrap();
    assert!(error.is_err() || task.write_all(b"too late").await.is_err());
}

#[tokio::test]
async fn a_reset_of_the_task_resets_the_client() {
    for half in [false, true] {
        let (owner, mut relayed, task) = connected().await;
        if half {
            relayed.shutdown().await.unwrap();
        }
        SockRef::from(&task).set_linger(Some(Duration::ZERO)).unwrap();
        drop(task);
        let read = timeout(SOON, relayed.read(&mut [0; 16])).await.unwrap();
        assert_eq!(
            read.unwrap_err().kind(),
            ErrorKind::ConnectionReset,
            "half closed: {half}"
        );
        is_over(&owner, 1).await;
    }
}

/// As servers refuse what is too large.
#[tokio::test]
async fn the_answer_of_a_task_that_does_not_hear_its_client_out_arrives() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let clients = Listening::new().await;
    for turn in 0..50 {
        let relayed = dial(&caller, TAG).await.unwrap();
        let mut task = listening.accept().await;
        let client = TcpStream::connect(clients.address()).await.unwrap();
        let near = clients.accept().await;
        let (mut from_node, mut to_node) = client.into_split();
        let sending = async { while to_node.write_all(&[7; 65_536]).await.is_ok() {} };
        // In turns of its own, as it is done.
        let carrying = tokio::spawn(async move { relayed.carry(&near, &Passed::default()).await });
        let talking = async {
            task.read_exact(&mut [0]).await.unwrap();
            task.write_all(b"too large").await.unwrap();
            // With unread bytes: the kernel resets it.
            drop(task);
            let mut answer = [0; 9];
            let heard = from_node.read_exact(&mut answer).await;
            assert!(heard.is_ok() && &answer == b"too large", "{turn}: {heard:?}");
        };
        let all = async { tokio::join!(sending, carrying, talking) };
        let (_, outcome, ()) = timeout(SOON, all).await.unwrap();
        outcome.unwrap().unwrap_err();
    }
    is_over(&owner, 50).await;
}

/// Two ends of a TCP connection; the second has so much room for what it is sent.
async fn pair(room: usize) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    SockRef::from(&listener).set_recv_buffer_size(room).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let connected = socket.connect(listener.local_addr().unwrap());
    let (one, accepted) = tokio::join!(connected, listener.accept());
    (one.unwrap(), accepted.unwrap().0)
}

/// A connection between nodes that takes little at a time, from the task's node to the client's.
async fn narrow() -> (server::TlsStream<Wire>, Relayed) {
    const LITTLE: usize = 8 << 10;
    let (owner, caller) = pair(LITTLE).await;
    SockRef::from(&owner).set_send_buffer_size(LITTLE).unwrap();
    let identity = Identity::new(&SECRET, "node2").unwrap();
    let wire = |socket| Wire::new(socket, &keepalive(Duration::from_secs(60)));
    let accepting = TlsAcceptor::from(identity.server).accept(wire(owner));
    let host = identity::host("node2").unwrap();
    let connecting = TlsConnector::from(identity.client).connect(host, wire(caller));
    let (node, client) = tokio::join!(accepting, connecting);
    (node.unwrap(), Relayed::new(client.unwrap()))
}

/// Its node has all of it by then, and the other one takes it bit by bit.
#[tokio::test]
async fn what_a_task_has_said_before_its_reset_arrives_before_that() {
    const MUCH: usize = 160 << 10;
    let sent: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
    for listens in [true, false] {
        let (mut node, mut client) = narrow().await;
        let (mut task, near) = pair(MUCH).await;
        let all_there = async {
            task.write_all(&sent).await.unwrap();
            while near.peek(&mut vec![0; MUCH]).await.unwrap() < MUCH {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, all_there).await.unwrap();
        SockRef::from(&task).set_linger(Some(Duration::ZERO)).unwrap();
        drop(task);
        let moved = Passed::default();
        let mut carrying = pin!(async move { carry(&mut node, &near, &moved).await });
        tokio::select! {
            biased;
            outcome = &mut carrying => panic!("{outcome:?}"),
            () = std::future::ready(()) => {}
        }
        if !listens {
            drop(client);
            let outcome = timeout(SOON, carrying).await.unwrap();
            assert!(matches!(outcome, Err(Breach::Node(_))), "{outcome:?}");
            continue;
        }
        let mut heard = Vec::new();
        let all = async { tokio::join!(carrying, client.read_to_end(&mut heard)) };
        let (outcome, read) = timeout(SOON, all).await.unwrap();
        assert!(matches!(outcome, Err(Breach::Near(_))), "{outcome:?}");
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(heard == sent, "{} of {MUCH}", heard.len());
    }
}

#[tokio::test]
async fn a_reset_of_a_task_that_has_said_all_ends_the_connection() {
    let (_owner, relayed, mut task) = connected().await;
    let (mut client, near) = pair(8 << 10).await;
    let carrying = tokio::spawn(async move { relayed.carry(&near, &Passed::default()).await });
    task.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
    SockRef::from(&task).set_linger(Some(Duration::ZERO)).unwrap();
    drop(task);
    let outcome = timeout(SOON, carrying).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(Breach::Node(_))), "{outcome:?}");
}

/// This node is asked for a member that the plane will know in a moment.
#[tokio::test]
async fn a_connection_that_comes_early_is_counted_and_ends_with_its_member() {
    let (owner, mut relayed, task) = connected().await;
    let member = Task {
        tag: TAG,
        node: "node2",
        port: task.local_addr().unwrap().port(),
        state: State::Active,
    };
    let mut known = snapshot(vec![member_of(&[member])]);
    owner.live.follow(&known, "node2", |_| true);
    let counted = timeout(SOON, async {
        while owner.live.load(TAG) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    counted.await.unwrap();
    known.pools.clear();
    known.generation += 1;
    owner.live.follow(&known, "node2", |_| true);
    let error = relayed.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    is_over(&owner, 1).await;
}

/// The same, and it never comes to know it.
#[tokio::test]
async fn a_connection_whose_member_is_gone_before_it_was_known_ends() {
    let (owner, mut relayed, _task) = connected().await;
    let mut without = snapshot(Vec::new());
    without.generation += 1;
    owner.live.follow(&without, "node2", |_| true);
    let error = relayed.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    is_over(&owner, 1).await;
}

/// Its agent is about to end: by a handshake from before, too, nothing begins, and the other node asks somebody else.
#[tokio::test]
async fn what_would_begin_at_the_end_does_not_and_what_is_there_goes_on() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let caller = owner.caller("node1", SECRET);
    let mut before = dial(&caller, TAG).await.unwrap();
    let mut task = listening.accept().await;
    owner.relay.end();
    let failure = dial(&caller, TAG).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
    task.write_all(b"still").await.unwrap();
    let mut bytes = [0; 5];
    before.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still");
}
