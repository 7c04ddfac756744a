//! East-west traffic: tasks and containers of the nodes as clients, on bridges with the same subnet everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netns::client::http::{self, Answer, Connection};
use netns::client::udp;
use netns::{Cluster, Namespace, Service, address, testing, tool};

/// Requests that leave one task of three unseen once in ten million times.
const ENOUGH: usize = 40;
/// A task's device is found within moments of the first snapshot, and until then the others serve.
const PATIENCE: Duration = Duration::from_secs(10);

fn vips(port: u16) -> [SocketAddr; 2] {
    address::vip(1).both().map(|vip| SocketAddr::new(vip, port))
}

/// A service of two ports and protocols at VIPs.
fn web() -> Service {
    Service::new(&["8080:80", "8080:80/udp"]).vip(1)
}

fn ask(from: &Namespace, target: SocketAddr) -> Answer {
    http::ask(from, target).unwrap_or_else(|error| panic!("{} asked {target}: {error:#}", from.name()))
}

/// The task and the source it saw.
fn send(from: &Namespace, target: SocketAddr) -> (String, IpAddr) {
    udp::ask(from, target)
        .unwrap_or_else(|error| panic!("{} asked {target} over UDP: {error:#}", from.name()))
}

/// Asks until three tasks have answered, and some more.
#[track_caller]
fn all_answer(target: SocketAddr, mut ask: impl FnMut() -> String) {
    let mut tasks = BTreeSet::new();
    let begun = Instant::now();
    while tasks.len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "only {tasks:?} answered at {target}");
        tasks.extend((0..ENOUGH).map(|_| ask()));
    }
    assert_eq!(tasks.len(), 3, "{target}: {tasks:?}");
}

/// What tasks of a node see of containers there and elsewhere, as `portico explain` has it. (The lab's nodes have one
/// bridge each, so that those there are neighbours.)
fn source(cluster: &Cluster, node: &str, target: SocketAddr) -> IpAddr {
    let explained = cluster.portico_json(node, &["explain", "web"]).unwrap();
    let masks = explained["seen"]["masks"].as_array().unwrap();
    let own = masks.iter().find(|mask| mask["node"] == node).unwrap();
    let addresses = own["addresses"].as_array().unwrap().iter();
    let mask = addresses
        .map(|mask| mask.as_str().unwrap().parse().unwrap())
        .find(|mask: &IpAddr| mask.is_ipv4() == target.is_ipv4());
    assert_eq!(mask, Some(cluster.state.nodes[node].address(0).like(target.ip())));
    mask.unwrap()
}

/// The same for all nodes.
fn sources(cluster: &Cluster, target: SocketAddr) -> BTreeMap<String, IpAddr> {
    let nodes = cluster.nodes().into_iter();
    nodes
        .map(|node| (node.clone(), source(cluster, &node, target)))
        .collect()
}

#[test]
fn a_container_that_is_no_task_reaches_every_task_of_a_vip() {
    let Some(mut cluster) = testing::cluster("anyclient").service("web", web(), 3).stage() else {
        return;
    };
    // Nobody tells the agents of it.
    let stranger = cluster.add_task("web", Some("node1")).unwrap();
    let from = cluster.place(&stranger);
    for target in vips(8080) {
        let sources = sources(&cluster, target);
        all_answer(target, || {
            let answer = ask(&from, target);
            // Its own neighbours would answer it on the link, and to other nodes' tasks its address is a neighbour's.
            assert_eq!(answer.client, sources[&answer.node], "{}", answer.task);
            answer.task
        });
        all_answer(target, || {
            let (task, seen) = send(&from, target);
            let node = &cluster.task(&task).unwrap().node;
            assert_eq!(seen, sources[node], "{task} over UDP");
            task
        });
    }
}

#[test]
fn tasks_of_one_address_call_one_vip_from_one_port() {
    let Some(cluster) = testing::cluster("oneport")
        .service("web", web(), 3)
        .service("shop", Service::new(&["9090:80"]), 3)
        .stage()
    else {
        return;
    };
    let callers = ["shop.1", "shop.2", "shop.3"];
    let own = cluster.task("shop.1").unwrap().address;
    for caller in callers {
        assert_eq!(cluster.task(caller).unwrap().address, own);
    }
    for target in vips(8080) {
        for port in 45_000..45_010 {
            let bound = SocketAddr::new(own.like(target.ip()), port);
            let open = |caller: &str| {
                let open = || Connection::open_from(target, bound);
                let mut connection = cluster.place(caller).run(open).unwrap().unwrap();
                let answer = connection.ask().unwrap();
                (connection, answer)
            };
            let mut connections: Vec<_> = callers.iter().map(|caller| open(caller)).collect();
            let holder = connections[0].1.task.clone();
            // One slot, so one task; it sees three clients.
            let seen: BTreeSet<(IpAddr, u16)> = connections
                .iter()
                .map(|(_, answer)| (answer.client, answer.port))
                .collect();
            assert_eq!(seen.len(), 3, "{target} from port {port}: {connections:?}");
            for (connection, first) in &mut connections {
                for _ in 0..3 {
                    let again = connection.ask().unwrap();
                    assert_eq!((&again.task, again.port), (&holder, first.port));
                }
            }
            // Each gets the whole of its own download.
            for (number, (connection, _)) in connections.iter_mut().enumerate() {
                let size = 100_000 * (number + 1);
                let (_, body) = connection.get(&format!("/bytes/{size}")).unwrap();
                assert_eq!(body.len(), size);
            }
            connections
                .into_iter()
                .for_each(|(connection, _)| connection.abort());
        }
    }
}

/// What looks for ways back without a flow must know whose flows they are.
#[test]
fn idle_connections_of_containers_outlive_rounds_of_expiry() {
    let Some(cluster) = testing::cluster("idleeast")
        .service("web", web(), 3)
        .service("shop", Service::new(&["9090:80"]), 2)
        .stage()
    else {
        return;
    };
    let open = |caller: &str, target: SocketAddr| {
        let open = || Connection::open(target, None);
        let mut connection = cluster.place(caller).run(open).unwrap().unwrap();
        let task = connection.ask().unwrap().task;
        (connection, task)
    };
    let mut connections: Vec<_> = vips(8080)
        .into_iter()
        .flat_map(|target| [target; 12])
        .flat_map(|target| ["shop.1", "shop.2"].map(|caller| open(caller, target)))
        .collect();
    std::thread::sleep(Duration::from_secs(12));
    for (connection, task) in &mut connections {
        assert_eq!(connection.ask().unwrap().task, *task);
    }
}

#[test]
fn datagrams_from_one_address_and_port_are_answered_to_whom_they_are_from() {
    let Some(cluster) = testing::cluster("onesocket")
        .service("web", web(), 3)
        .service("shop", Service::new(&["9090:80"]), 3)
        .stage()
    else {
        return;
    };
    let own = cluster.task("shop.1").unwrap().address;
    for target in vips(8080) {
        let bound = SocketAddr::new(own.like(target.ip()), 45_000);
        let sockets: Vec<_> = ["shop.1", "shop.2", "shop.3"]
            .iter()
            .map(|caller| {
                let open = || {
                    let socket = std::net::UdpSocket::bind(bound)?;
                    socket.connect(target)?;
                    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                    std::io::Result::Ok(socket)
                };
                cluster.place(caller).run(open).unwrap().unwrap()
            })
            .collect();
        for round in 0..20 {
            for (number, socket) in sockets.iter().enumerate() {
                socket.send(format!("{round} of {number}").as_bytes()).unwrap();
            }
            for (number, socket) in sockets.iter().enumerate() {
                let mut buffer = [0; 200];
                let length = socket.recv(&mut buffer).unwrap();
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                assert!(text.ends_with(&format!(" {round} of {number}")), "{text}");
            }
        }
    }
}

#[test]
fn another_nodes_published_port_is_served_by_ones_own_node() {
    let Some(mut cluster) = testing::cluster("ownnode")
        .service("web", Service::new(&testing::WEB), 3)
        .stage()
    else {
        return;
    };
    // No masquerading: what left a node under a container's address would find no way back.
    let stranger = cluster.add_task("web", Some("node2")).unwrap();
    for from in ["web.1", &stranger] {
        let from = cluster.place(from);
        for node in cluster.nodes() {
            let target = SocketAddr::new(cluster.state.nodes[&node].address(0).v4.into(), 8080);
            all_answer(target, || ask(&from, target).task);
            all_answer(target, || send(&from, target).0);
        }
    }
}

#[test]
fn a_task_alone_in_its_service_reaches_itself() {
    let Some(cluster) = testing::cluster("itself").service("web", web(), 1).stage() else {
        return;
    };
    let from = cluster.place("web.1");
    for target in vips(8080) {
        let answer = ask(&from, target);
        assert_eq!(answer.task, "web.1");
        assert_eq!(answer.client, source(&cluster, "node1", target));
        assert_eq!(send(&from, target), ("web.1".into(), answer.client));
        let body = from
            .run(|| Connection::open(target, None)?.get("/bytes/10000000"))
            .unwrap();
        assert_eq!(body.unwrap().1.len(), 10_000_000);
    }
}

/// The lab's bridges have equal subnets, which no flat network has: a container gets an address that is its alone.
#[test]
fn in_a_flat_network_every_task_sees_who_asks() {
    let Some(cluster) = testing::cluster("flat")
        .configuration("[networks]\nflat = [\"172.20.0.0/16\", \"2001:db8:20::/64\"]")
        .service("web", web(), 3)
        .service("shop", Service::new(&["9090:80"]), 1)
        .stage()
    else {
        return;
    };
    let explained = cluster.portico_json("node1", &["explain", "web"]).unwrap();
    let flat = serde_json::json!(["172.20.0.0/16", "2001:db8:20::/64"]);
    assert_eq!(explained["seen"]["flat"], flat);
    let node = &cluster.task("shop.1").unwrap().node;
    let unique = ["172.20.0.9", "2001:db8:20::9"];
    let from = cluster.place("shop.1");
    tool::ip(
        Some(from.name()),
        &unique.map(|address| format!("addr add {address} dev eth0 nodad")),
    )
    .unwrap();
    tool::ip(
        Some(cluster.place(node).name()),
        &unique.map(|address| format!("route add {address} dev docker0")),
    )
    .unwrap();
    for target in vips(8080) {
        let source: IpAddr = unique[usize::from(target.is_ipv6())].parse().unwrap();
        all_answer(target, || {
            let answer = from.run(|| Connection::open(target, Some(source))?.ask());
            let answer = answer.unwrap().unwrap();
            assert_eq!(answer.client, source, "{}", answer.task);
            answer.task
        });
    }
}
