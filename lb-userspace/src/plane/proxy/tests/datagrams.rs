//! What becomes of UDP flows when the snapshot changes.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rig::{PATIENCE, Rig};
use crate::model::{Node, Protocol, ProxyRules};

/// With tasks that count as on one node each, and a client.
fn rig(tasks: u8, rules: ProxyRules, more: &str) -> (Rig, Vec<UdpSocket>, UdpSocket) {
    let mut rig = Rig::with(tasks, rules, more);
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.frontends[0].protocol = Protocol::Udp;
    let front = service.frontends[0];
    apply(&mut rig);
    assert_eq!(rig.plane.report().problems, []);
    let listen = |address: &SocketAddr| {
        let task = UdpSocket::bind(address).unwrap();
        task.set_nonblocking(true).unwrap();
        task
    };
    let sockets = rig.tasks.iter().map(listen).collect();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect((front.address.unwrap(), front.port)).unwrap();
    (rig, sockets, client)
}

fn apply(rig: &mut Rig) {
    rig.snapshot.generation += 1;
    rig.apply();
}

/// Says something, and which task has heard it.
fn say(client: &UdpSocket, tasks: &[UdpSocket]) -> usize {
    client.send(b"x").unwrap();
    let began = Instant::now();
    loop {
        for (task, socket) in tasks.iter().enumerate() {
            match socket.recv(&mut [0]) {
                Ok(_) => return task,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn node(rig: &mut Rig, task: usize) -> &mut Node {
    let tag = rig.snapshot.pools[0].members[task].candidate.node;
    let mut nodes = rig.snapshot.nodes.values_mut();
    nodes.find(|node| node.tag == tag).unwrap()
}

#[test]
fn flows_of_a_suspected_node_move_with_their_next_datagram_if_there_is_another() {
    let (mut rig, tasks, client) = rig(3, ProxyRules::default(), "");
    let first = say(&client, &tasks);
    node(&mut rig, first).suspected = true;
    apply(&mut rig);
    let second = say(&client, &tasks);
    assert_ne!(second, first);
    // It stays where it is, also when its first one is trusted again.
    node(&mut rig, first).suspected = false;
    apply(&mut rig);
    assert_eq!(say(&client, &tasks), second);
    // It is most likely this node that is cut off.
    for task in 0..3 {
        node(&mut rig, task).suspected = true;
    }
    apply(&mut rig);
    assert_eq!(say(&client, &tasks), second);
}

#[test]
fn flows_end_when_the_node_says_so_and_not_when_connections_of_their_service_do() {
    let rules = ProxyRules {
        idle: Some(Duration::from_secs(3600)),
        ..ProxyRules::default()
    };
    let (rig, tasks, client) = rig(1, rules, "udp_idle = '1s'");
    say(&client, &tasks);
    rig.until(|proxy| proxy.udp.flows == 0 && proxy.udp.events["idle"] == 1);
}
