//! Datagrams of clients of one node to tasks of another, through what is there between them.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::cluster::{Listening, Owner, SECRET, SOON, TAG, node};
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::relay::Relay;
use crate::plane::proxy::udp::trunk::{Call, Link};
use crate::plane::proxy::udp::{self, Choose, Prospect, Target, Way};

/// A frontend whose only member is node2's task.
struct Front;

impl Choose for Front {
    fn choose(&self, _: std::net::SocketAddr, tried: &[u64]) -> Option<Target> {
        (!tried.contains(&TAG)).then(|| Target {
            tag: TAG,
            way: Way::There(node("node2", 2)),
            held: None,
        })
    }

    fn prospect(&self, _: u64) -> Prospect {
        Prospect::Active
    }

    fn generation(&self) -> u64 {
        1
    }
}

#[tokio::test]
async fn datagrams_are_carried_both_ways() {
    let task = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let owner = Owner::of(task.local_addr().unwrap()).await;
    let caller = owner.caller("node1", SECRET);
    let carried = async {
        let shared = udp::Shared::new(udp::Bounds::default(), Arc::default());
        let socket = udp::listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let front = socket.local_addr().unwrap();
        let worker = udp::Worker::new(&shared, Rc::new(caller.dialer()));
        spawn_local(udp::serve(Rc::new(socket), || Some(Front), worker));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(front).await.unwrap();
        let mut buffer = [0; 2000];
        for round in 0..10 {
            let question = vec![round; 1000];
            client.send(&question).await.unwrap();
            let (length, flow) = task.recv_from(&mut buffer).await.unwrap();
            assert_eq!(buffer[..length], question);
            task.send_to(&buffer[..length], flow).await.unwrap();
            assert_eq!(client.recv(&mut buffer).await.unwrap(), 1000);
        }
    };
    timeout(SOON, LocalSet::new().run_until(carried)).await.unwrap();
    assert_eq!(caller.report().heard["connected"], 1);
    owner.has_answered("connected").await;
}

async fn trunk(caller: &Relay) -> std::io::Result<Box<dyn Link>> {
    caller.dialer().call(&node("node2", 2)).await
}

#[tokio::test]
async fn only_nodes_of_the_cluster_bring_datagrams() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let error = trunk(&owner.caller("node9", SECRET)).await.err().unwrap();
    assert!(
        error.to_string().contains(&Answer::Stranger.to_string()),
        "{error}"
    );
    owner.has_refused("unknown").await;
}

#[tokio::test]
async fn a_node_that_is_not_understood_is_cut_off() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let mut link = trunk(&owner.caller("node1", SECRET)).await.unwrap();
    link.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    link.flush().await.unwrap();
    let heard = timeout(SOON, link.read(&mut [0; 1])).await.unwrap();
    assert!(!matches!(heard, Ok(1..)));
    owner.has_refused("malformed").await;
}
