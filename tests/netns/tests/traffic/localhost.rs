//! `localhost` and a node's own address answer for every published port, unless somebody listens there.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use netns::testing::Stage;
use netns::{tool, wait};

use crate::support::caller::Caller;
use crate::support::near_and_far::{both_answer, stage};

#[test]
fn localhost_answers_for_every_published_port_and_shows_itself() {
    let Some(cluster) = stage("localhost") else { return };
    let own = cluster.state.nodes["node1"].address(0);
    let hosts = ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(str::to_owned);
    for host in hosts.into_iter().chain(own.both().map(|ip| ip.to_string())) {
        both_answer(&cluster, &host, 8081);
        let mut socket = Caller::start(&cluster, "node1", &[&host, "8081", "udp"]);
        let mut tasks = BTreeSet::new();
        for _ in 0..3 {
            let said = socket.ask();
            assert_eq!(
                (said["peer"].as_str(), said["port"].as_u64()),
                (Some(host.as_str()), Some(8081)),
                "{said}"
            );
            tasks.insert(said["text"].as_str().unwrap().to_owned());
        }
        assert!(!tasks.is_empty());
    }
    // The agent's end changes nothing.
    let mut cluster = cluster;
    cluster.kill_agent("node1").unwrap();
    both_answer(&cluster, "127.0.0.1", 8081);
}

#[test]
fn whoever_listens_on_the_node_itself_is_meant_by_localhost() {
    let Some(cluster) = stage("listens") else { return };
    let node = cluster.place("node1");
    for (bind, host) in [
        ("127.0.0.1:8081", "127.0.0.1"),
        ("[::]:8081", "::1"),
        ("[::]:8081", "127.0.0.1"),
    ] {
        let listener = node.run(|| TcpListener::bind(bind).unwrap()).unwrap();
        let caller = Caller::connect(&cluster, "node1", host, 8081);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.port(), caller.first["own"].as_u64().unwrap() as u16);
    }
    let socket = node.run(|| UdpSocket::bind("127.0.0.1:8081").unwrap()).unwrap();
    let mut caller = Caller::start(&cluster, "node1", &["127.0.0.1", "8081", "udp"]);
    caller.tell("ask");
    let mut text = [0; 16];
    let (length, from) = socket.recv_from(&mut text).unwrap();
    assert_eq!(&text[..length], b"hello");
    socket.send_to(b"mine", from).unwrap();
    assert_eq!(caller.hear()["text"], "mine");
    drop(socket);
    // Nobody's port is nobody's; and who was bound to a loopback address cannot leave it.
    let nobody = Caller::connect(&cluster, "node1", "127.0.0.1", 8099);
    assert_eq!(nobody.first["error"], "ECONNREFUSED");
    let bound = Caller::start(&cluster, "node1", &["127.0.0.1", "8081", "tcp", "127.0.0.1"]);
    assert_eq!(bound.first["error"], "ECONNREFUSED");
    for own in cluster.state.nodes["node1"].address(0).both() {
        let own = own.to_string();
        let bound = Caller::start(&cluster, "node1", &[&own, "8081", "tcp", &own]);
        assert_eq!(bound.peer(), (own.as_str(), 8081));
    }
    // Other addresses of 127.0.0.0/8 are nobody's but their listeners'.
    let other = Caller::connect(&cluster, "node1", "127.8.8.8", 8081);
    assert_eq!(other.first["error"], "ECONNREFUSED");
    // As systemd-resolved listens.
    let listener = node
        .run(|| {
            let listener = TcpListener::bind("127.0.0.1:8081").unwrap();
            socket2::SockRef::from(&listener)
                .bind_device(Some(b"lo"))
                .unwrap();
            listener
        })
        .unwrap();
    wait::until("the listener on lo is seen", Duration::from_secs(10), || {
        let caller = Caller::connect(&cluster, "node1", "127.0.0.1", 8081);
        caller.leads_to(&cluster, "node1") == "127.0.0.1:8081"
    })
    .unwrap();
    drop(listener);
    // A container's localhost is its own.
    let inside = Caller::connect(&cluster, "near.1", "127.0.0.1", 8081);
    assert_eq!(inside.first["error"], "ECONNREFUSED");
}

/// As where IPv6 is off, or somebody else's device has the name: nothing may leave by the default route.
#[test]
fn localhost_refuses_at_once_where_nothing_leads_to_the_vip_of_the_node() {
    let Some(mut cluster) = stage("unrouted") else {
        return;
    };
    let ip = |cluster: &Stage, arguments: &[&str]| {
        let mut ip = cluster.command("node1", "ip").unwrap();
        tool::run(ip.args(arguments)).unwrap()
    };
    cluster.kill_agent("node1").unwrap();
    ip(&cluster, &["link", "del", "portico0"]);
    // A bridge cannot be what the agent wants of that name.
    ip(&cluster, &["link", "add", "portico0", "type", "bridge"]);
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    for host in ["127.0.0.1", "::1"] {
        let caller = Caller::connect(&cluster, "node1", host, 8081);
        assert_eq!(caller.first["error"], "ECONNREFUSED", "{host}");
    }
    ip(&cluster, &["link", "del", "portico0"]);
    wait::until("localhost answers", Duration::from_secs(10), || {
        Caller::connect(&cluster, "node1", "127.0.0.1", 8081).first["peer"].is_string()
    })
    .unwrap();
}
