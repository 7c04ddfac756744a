//! Services that change planes while they are asked, families without tasks, and a node without packet programs among others.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use netns::client::http;
use netns::client::idle::Idle;
use netns::client::load::{Load, Plan};
use netns::client::udp::{self, Sender};
use netns::state::Service;
use netns::testing::{self, Stage};
use netns::{Cluster, services, tool, wait};
use serde_json::Value;

/// More than an agent takes to look for connections of its proxy.
const LOOKED: Duration = Duration::from_secs(35);

/// One that every node publishes, and one at an address of its own.
fn pair(plane: &str) -> [(&'static str, Service); 2] {
    let published = Service::new(&["8080:80", "8080:80/udp"]);
    let vip = Service::new(&["80", "80/udp"]).vip(1);
    [("web", published), ("shop", vip)]
        .map(|(name, service)| (name, service.with(&format!("plane: {plane}"))))
}

/// Until all agents say so.
fn switch(cluster: &mut Stage, plane: &str) {
    for (name, service) in pair(plane) {
        cluster.set_service(name, service);
    }
    cluster.publish().unwrap();
    for (name, _) in pair(plane) {
        for node in cluster.nodes() {
            let what = format!("{name} is served as it should be on {node}");
            wait::until(&what, Duration::from_secs(20), || {
                let explained = cluster.portico(&node, &["explain", name]).unwrap_or_default();
                !explained.is_empty() && explained.contains("served by proxy") == (plane == "proxy")
            })
            .unwrap();
        }
    }
    cluster.keep_up().unwrap();
}

fn loads(cluster: &Cluster, targets: &[SocketAddr]) -> [Load; 2] {
    let plans = [
        Plan::keep_alive(targets, 100.0),
        Plan::new_connections(targets, 100.0),
    ];
    plans.map(|plan| plan.start(&cluster.client()))
}

/// Each change under requests, datagrams, and silent connections that began with either plane.
#[test]
fn a_service_that_changes_planes_and_back_fails_no_request_and_keeps_every_connection() {
    let [(web, published), (shop, vip)] = pair("auto");
    let cluster = testing::cluster("switch").mode("auto").service(web, published, 3);
    let Some(mut cluster) = cluster.service(shop, vip, 3).stage() else {
        return;
    };
    cluster.send_vips(&["node1"]).unwrap();
    let mut targets = cluster.ports(8080);
    targets.extend(netns::address::vip(1).both().map(|ip| SocketAddr::new(ip, 80)));
    let loads = loads(&cluster, &targets);
    let senders: Vec<_> = targets
        .iter()
        .map(|&target| Sender::start(&cluster.client(), target, 20.0))
        .collect();
    let go_on = || {
        loads.iter().for_each(|load| load.wait_for(200).unwrap());
        senders.iter().for_each(|sender| sender.wait_for(20).unwrap());
    };
    go_on();
    let mut silent = vec![Idle::open(&cluster.client(), &targets, 60).unwrap()];
    for plane in ["proxy", "auto"] {
        switch(&mut cluster, plane);
        let before = cluster.counted("proxied").unwrap();
        go_on();
        let proxied = cluster.counted("proxied").unwrap() - before;
        assert_eq!(proxied > 0, plane == "proxy", "{plane}: {proxied} went up");
        for idle in &mut silent {
            assert_eq!(idle.prove(), Ok(()), "{plane}");
        }
        silent.push(Idle::open(&cluster.client(), &targets, 60).unwrap());
    }
    // Whether the node's own sockets are asked first depends on what it has.
    std::thread::sleep(LOOKED);
    for idle in &mut silent {
        assert_eq!(idle.prove(), Ok(()));
    }
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
    for (target, sender) in targets.iter().zip(senders) {
        let account = sender.stop().unwrap();
        let silence = account.longest_silence();
        assert!(
            silence < Duration::from_secs(1),
            "{target}: silent for {silence:?}"
        );
    }
}

/// Tasks have addresses of this family alone, and every node has carried that out: connections to others end with them.
fn leave_alone(cluster: &mut Stage, family: &str) {
    let is_ipv4 = family == "IPv4";
    cluster.state.file = None;
    let text = services::render(&cluster.state);
    let of_one = |line: &str| {
        let (before, rest) = line.split_once("address: [")?;
        let (both, after) = rest.split_once(']')?;
        let (v4, v6) = both.split_once(", ")?;
        Some(format!(
            "{before}address: [{}]{after}",
            if is_ipv4 { v4 } else { v6 }
        ))
    };
    let one_family: Vec<String> = text
        .lines()
        .map(|line| of_one(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    cluster.state.file = Some(one_family.join("\n"));
    cluster.publish().unwrap();
    for node in cluster.nodes() {
        let what = format!("{node} knows that tasks have {family} alone");
        wait::until(&what, Duration::from_secs(20), || {
            let backends = cluster
                .portico_json(&node, &["backend", "ls"])
                .unwrap_or_default();
            let has_one = |row: &Value| {
                let all: Vec<&str> = row["addresses"]
                    .as_array()
                    .map(|all| all.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                all.len() == 1 && all[0].contains('.') == is_ipv4
            };
            let rows = backends.as_array();
            rows.is_some_and(|rows| !rows.is_empty() && rows.iter().all(has_one))
        })
        .unwrap();
    }
    cluster.wait_applied().unwrap();
}

#[test]
fn a_client_of_a_family_without_tasks_is_led_to_those_of_the_other() {
    let Some(mut cluster) = testing::web("families", 3).stage() else {
        return;
    };
    for (family, other) in [("IPv4", "IPv6"), ("IPv6", "IPv4")] {
        leave_alone(&mut cluster, family);
        all_reach_all(&cluster);
        for target in cluster.ports(8080) {
            let ask = || udp::ask(&cluster.client(), target).unwrap().0;
            let tasks: BTreeSet<String> = std::iter::repeat_with(ask).take(40).collect();
            assert_eq!(tasks.len(), 3, "{target}, {family} alone: {tasks:?}");
        }
        for node in cluster.nodes() {
            let status = cluster.portico(&node, &["status"]).unwrap();
            for protocol in ["tcp", "udp"] {
                let served = format!("web *:8080/{protocol} ({other})");
                assert!(status.contains(&served), "{served} is not in {status}");
            }
        }
    }
}

/// `node2` has no packet programs.
#[test]
fn in_a_mixed_cluster_every_node_reaches_every_task_while_they_come_and_go() {
    let Some(mut cluster) = testing::web("mixed", 3).mode("mixed").stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    for target in &targets {
        // Enough that each task is met.
        let load = Plan::new_connections(&[*target], 100.0).start(&cluster.client());
        load.wait_for(100).unwrap();
        let report = load.stop().unwrap();
        report.assert_flawless();
        assert_eq!(report.tasks().len(), 3, "{target}: {:?}", report.answers);
    }
    let loads = loads(&cluster, &targets);
    let go_on = || loads.iter().for_each(|load| load.wait_for(200).unwrap());
    go_on();
    let mut silent = Idle::open(&cluster.client(), &targets, 60).unwrap();
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    go_on();
    assert_eq!(silent.prove(), Ok(()));
    for node in ["node1", "node2"] {
        for draining in [true, false] {
            cluster.set_node_draining(node, draining).unwrap();
            cluster.settle().unwrap();
            go_on();
        }
    }
    assert_eq!(silent.prove(), Ok(()));
    cluster.scale("web", 3).unwrap();
    go_on();
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
}

/// As a bridge does whose ports come and go, unless somebody has set its address.
#[test]
fn in_a_mixed_cluster_tasks_answer_a_bridge_whose_address_changes() {
    let Some(cluster) = testing::web("bridges", 3).mode("mixed").stage() else {
        return;
    };
    let become_another = |last: u8| {
        for node in cluster.nodes() {
            let set = format!("link set docker0 address 02:00:00:00:01:{last:02x}");
            tool::ip(Some(cluster.place(&node).name()), &[set]).unwrap();
        }
    };
    // What it had until now is one of its ports', which takes what is sent there.
    become_another(1);
    for task in cluster.state.tasks.keys() {
        tool::ip(Some(cluster.place(task).name()), &["neigh flush all".into()]).unwrap();
    }
    let mut silent = Idle::open(&cluster.client(), &cluster.ports(8080), 60).unwrap();
    become_another(2);
    // By then the agents themselves have asked where their tasks are, by no address that these answer to.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(silent.prove(), Ok(()));
}

fn plane_of(cluster: &Cluster, node: &str) -> Vec<String> {
    let status = cluster.portico_json(node, &["status"]).unwrap();
    let planes = status["planes"].as_array().unwrap();
    planes
        .iter()
        .map(|plane| plane["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Until node1 shows it of node2, to whose tasks the proxy leads where that is all it has.
fn wait_shown(cluster: &Cluster, plane: &str) {
    wait::until("node1 shows the plane of node2", Duration::from_secs(20), || {
        let nodes = cluster.portico_json("node1", &["node", "ls"]).unwrap();
        let mut nodes = nodes.as_array().unwrap().iter();
        nodes.any(|node| node["name"] == "node2" && node["plane"] == plane)
    })
    .unwrap();
    let explained = cluster.portico("node1", &["explain", "web"]).unwrap();
    let is_named = explained.contains("Connections to tasks of node2 are the proxy's");
    assert_eq!(is_named, plane == "proxy", "{explained}");
}

/// New connections to every node, each of which reaches every task.
fn all_reach_all(cluster: &Cluster) {
    for target in cluster.ports(8080) {
        let load = Plan::new_connections(&[target], 100.0).start(&cluster.client());
        load.wait_for(60).unwrap();
        let report = load.stop().unwrap();
        report.assert_flawless();
        assert_eq!(report.tasks().len(), 3, "{target}: {:?}", report.answers);
    }
}

/// What it had attached goes when it comes back without packet programs, and comes again.
#[test]
fn a_node_whose_agent_comes_back_with_another_mode_is_followed_by_all() {
    let Some(mut cluster) = testing::web("modes", 3).mode("auto").stage() else {
        return;
    };
    all_reach_all(&cluster);
    for (mode, planes) in [("mixed", ["proxy"]), ("auto", ["ebpf"]), ("mixed", ["proxy"])] {
        cluster.stop_agent("node2").unwrap();
        cluster.state.mode = Some(mode.to_owned());
        cluster.start_agent("node2").unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
        cluster.wait_hooked().unwrap();
        assert_eq!(plane_of(&cluster, "node2"), planes);
        wait_shown(&cluster, planes[0]);
        all_reach_all(&cluster);
    }
}

#[test]
fn an_agent_that_may_not_load_packet_programs_serves_by_the_proxy_and_says_why() {
    let Some(mut cluster) = testing::web("refused", 3).mode("proxy").stage() else {
        return;
    };
    cluster.stop_agent("node2").unwrap();
    cluster.state.mode = Some("auto".to_owned());
    let without = ["setpriv", "--bounding-set", "-bpf,-sys_admin,-perfmon"];
    cluster.start_agent_by("node2", &without).unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    assert_eq!(plane_of(&cluster, "node2"), ["proxy"]);
    let status = cluster.portico("node2", &["status"]).unwrap();
    assert!(status.contains("eBPF is not available: "), "{status}");
    all_reach_all(&cluster);
}

/// Listens on the node itself, at all addresses of both families.
fn program(cluster: &Stage, port: u16) -> TcpListener {
    let bind = move || TcpListener::bind(("::", port)).unwrap();
    let listener = cluster.place("node1").run(bind).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Whether it is this program that a new connection comes to.
fn takes(program: &TcpListener, connect: impl FnOnce() -> TcpStream) -> bool {
    let client = connect().local_addr().unwrap();
    let accepted = || match program.accept() {
        Ok((_, from)) => Some(from.port() == client.port()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    };
    let mut taken = None;
    let _ = wait::until("it is accepted", Duration::from_secs(1), || {
        taken = accepted();
        taken.is_some()
    });
    taken == Some(true)
}

/// Who comes in to a port of the mesh is served whoever else has it; all the rest is that program's.
#[test]
fn a_port_that_another_program_has_is_served_beside_it_whatever_becomes_of_either() {
    let Some(mut cluster) = testing::web("taken", 3).mode("auto").stage() else {
        return;
    };
    let (others, free) = (program(&cluster, 8080), program(&cluster, 8090));
    leave_alone(&mut cluster, "IPv4");
    let targets: Vec<SocketAddr> = cluster
        .ports(8080)
        .into_iter()
        .filter(SocketAddr::is_ipv6)
        .collect();
    let node1 = targets[0];
    let is_led = |cluster: &Stage, node| {
        let status = cluster.portico(node, &["status"]).unwrap();
        status.contains("another program has the port of [::]:8080/tcp")
    };
    wait::until("clients are led past it", Duration::from_secs(10), || {
        is_led(&cluster, "node1")
    })
    .unwrap();
    assert!(!is_led(&cluster, "node2"), "nobody has it there");
    for target in &targets {
        wait::until("it is answered", Duration::from_secs(10), || {
            http::ask(&cluster.client(), *target).is_ok()
        })
        .unwrap();
    }
    let (client, node) = (cluster.client(), cluster.place("node1"));
    let outside = |to: SocketAddr| client.run(move || TcpStream::connect(to).unwrap()).unwrap();
    let inside = |to: SocketAddr| node.run(move || TcpStream::connect(to).unwrap()).unwrap();
    assert!(!takes(&others, || outside(node1)));
    assert!(takes(&free, || outside(SocketAddr::new(node1.ip(), 8090))));
    for own in [node1, "[::1]:8080".parse().unwrap()] {
        assert!(takes(&others, || inside(own)), "{own}: its own processes");
    }

    // An agent after the other.
    let mut idle = Idle::open(&cluster.client(), &targets, 12).unwrap();
    let load = || Plan::new_connections(&targets, 100.0).start(&client);
    let first = load();
    first.wait_for(100).unwrap();
    cluster.replace_agent("node1").unwrap();
    cluster.settle().unwrap();
    first.wait_for(100).unwrap();
    let report = first.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.tasks().len(), 3, "{:?}", report.answers);
    assert_eq!(idle.prove(), Ok(()));
    assert!(!takes(&others, || outside(node1)));
    drop(idle);

    // While there is none it is as if there had never been one.
    cluster.kill_agent("node1").unwrap();
    assert!(takes(&others, || outside(node1)));
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    assert!(!takes(&others, || outside(node1)));

    // The other one goes.
    let second = load();
    second.wait_for(100).unwrap();
    drop(others);
    // One that is started again finds its port.
    drop(program(&cluster, 8080));
    wait::until("the port is the agent's", Duration::from_secs(60), || {
        !is_led(&cluster, "node1")
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(6));
    second.wait_for(100).unwrap();
    second.stop().unwrap().assert_flawless();
}
