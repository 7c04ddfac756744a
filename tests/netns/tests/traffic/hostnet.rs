//! Tasks in their nodes' own network namespace, as `docker run --network host` starts them: reached by published port and by
//! VIP from anywhere, with the client's own address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::host::{NODE_VIP4, NODE_VIP6};
use netns::builder::Builder;
use netns::client::http::{self, Connection};
use netns::client::idle::Idle;
use netns::client::load::Plan;
use netns::client::udp;
use netns::testing::Stage;
use netns::{Cluster, Service, address, testing, wait};
use nix::sys::signal::Signal;

/// Where the tasks listen; the service is published on another port, `same` on this one.
const TARGET: u16 = 9_100;
const SOON: Duration = Duration::from_secs(10);

fn web() -> Service {
    let ports = [format!("8080:{TARGET}"), format!("8080:{TARGET}/udp")];
    Service::new(&ports.each_ref().map(String::as_str)).on_host(TARGET)
}

/// Two nodes with a task each.
fn nodes(name: &str, web: Service) -> Builder {
    testing::cluster(name).nodes(2).service("web", web, 2)
}

/// The same, at 8080 of both nodes: where clients from outside find it.
fn stage(name: &str) -> Option<(Stage, Vec<SocketAddr>)> {
    let cluster = nodes(name, web()).stage()?;
    let targets = cluster.ports(8080);
    Some((cluster, targets))
}

/// Where tasks and processes of the nodes find it otherwise: at the VIPs that it was given, by the port of its tasks.
fn given(cluster: &Cluster) -> Vec<SocketAddr> {
    let web = cluster
        .portico_json("node1", &["service", "show", "web"])
        .unwrap();
    let vips = web["naming"]["vips"].as_array().unwrap();
    let at = |vip: &serde_json::Value| Some(SocketAddr::new(vip.as_str()?.parse().ok()?, TARGET));
    let given: Vec<SocketAddr> = vips.iter().filter_map(at).collect();
    assert_eq!(given.len(), 2, "{web}");
    given
}

/// Asks each target often enough for both tasks, over TCP and UDP; gives the clients that the task on each node saw.
#[track_caller]
fn ask(cluster: &Cluster, place: &str, targets: &[SocketAddr]) -> [BTreeSet<IpAddr>; 2] {
    let from = cluster.place(place);
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for &target in targets {
        let mut tasks = BTreeSet::new();
        for _ in 0..24 {
            let answer = http::ask(&from, target)
                .unwrap_or_else(|error| panic!("{place} asks {target} by TCP: {error:#}"));
            seen[usize::from(answer.task == "web.2")].insert(answer.client);
            tasks.insert((answer.task, "tcp"));
            let (task, client) = udp::ask(&from, target)
                .unwrap_or_else(|error| panic!("{place} asks {target} by UDP: {error:#}"));
            seen[usize::from(task == "web.2")].insert(client);
            tasks.insert((task, "udp"));
        }
        assert_eq!(tasks.len(), 4, "{place} asks {target}: {tasks:?}");
    }
    seen
}

/// Many full segments, by each target until both tasks have sent some.
#[track_caller]
fn downloads(cluster: &Cluster, place: &str, targets: &[SocketAddr]) {
    let size = 2 << 20;
    for &target in targets {
        for _ in 0..6 {
            let read = cluster.place(place).run(|| -> std::io::Result<usize> {
                let mut connection = Connection::open(target, None)?;
                Ok(connection.get(&format!("/bytes/{size}"))?.1.len())
            });
            assert_eq!(read.unwrap().unwrap(), size, "{place}, {target}");
        }
    }
}

fn node_vips() -> BTreeSet<IpAddr> {
    [NODE_VIP4.into(), NODE_VIP6.into()].into()
}

fn strict(cluster: &Cluster) {
    for node in cluster.nodes() {
        for device in ["all", "default", "eth0", "docker0", "portico0"] {
            let key = format!("net/ipv4/conf/{device}/rp_filter");
            cluster.place(&node).sysctl(&[(&key, "1")]).unwrap();
        }
    }
}

#[test]
fn clients_reach_tasks_on_the_hosts_network_by_every_node_and_by_vip_and_keep_their_address() {
    let Some((cluster, targets)) = stage("hostnet") else {
        return;
    };
    served(&cluster, &targets);
    drop(cluster);
    let Some(cluster) = nodes("hostvip", web().vip(1)).stage() else {
        return;
    };
    let vips = address::vip(1).both().map(|vip| SocketAddr::new(vip, 8080));
    served(&cluster, &vips);
}

/// Clients from outside are served by both tasks, whatever filters there are.
#[track_caller]
fn served(cluster: &Cluster, targets: &[SocketAddr]) {
    let client = BTreeSet::from(address::CLIENT.both());
    for filter in [false, true] {
        if filter {
            strict(cluster);
        }
        for seen in ask(cluster, "client", targets) {
            assert_eq!(seen, client);
        }
        downloads(cluster, "client", targets);
    }
    assert!(cluster.counted("delivered_to_host").unwrap() > 100);
    assert!(cluster.counted("replied_by_host").unwrap() > 100);
    assert!(cluster.counted("reply_relayed").unwrap() > 100);
    assert_eq!(cluster.counted("failed").unwrap(), 0);
    for node in cluster.agents() {
        let check = cluster.portico_json(&node, &["check"]);
        let text = format!("{check:?}");
        assert!(!text.contains("differs"), "{text}");
    }
}

#[test]
fn a_port_published_under_its_own_number_is_balanced_and_mistaken_for_nothing() {
    let same = Service::new(&["9100", "9100/udp"]).on_host(TARGET);
    let Some(cluster) = testing::cluster("hostsame")
        .nodes(2)
        .service("web", same, 2)
        .stage()
    else {
        return;
    };
    let targets = cluster.ports(TARGET);
    let client = BTreeSet::from(address::CLIENT.both());
    for seen in ask(&cluster, "client", &targets) {
        assert_eq!(seen, client);
    }
    downloads(&cluster, "client", &targets);
    // One port of the client's to two nodes, none that its kernel may have given to a connection before: two connections,
    // whoever has them.
    for port in 20_000..20_020 {
        for family in [0, 1] {
            let source = SocketAddr::new(address::CLIENT.both()[family], port);
            let targets: Vec<SocketAddr> = targets.iter().copied().skip(family).step_by(2).collect();
            let kept: Vec<String> = cluster
                .client()
                .run(|| -> std::io::Result<Vec<String>> {
                    let mut both = targets
                        .iter()
                        .map(|&target| Connection::open_from(target, source))
                        .collect::<std::io::Result<Vec<_>>>()?;
                    let tasks = both.iter_mut().map(|connection| Ok(connection.ask()?.task));
                    tasks.collect()
                })
                .unwrap()
                .unwrap();
            assert_eq!(kept.len(), 2);
        }
    }
}

#[test]
fn containers_and_processes_of_every_node_reach_tasks_on_the_hosts_network() {
    let guest = Service::new(&["8090:80"]);
    let Some(cluster) = nodes("hostinside", web()).service("guest", guest, 2).stage() else {
        return;
    };
    wait::until("the guests are on two nodes", SOON, || {
        cluster.state.tasks["guest.1"].node == "node1" && cluster.state.tasks["guest.2"].node == "node2"
    })
    .unwrap();
    for filter in [false, true] {
        if filter {
            strict(&cluster);
        }
        for (index, (guest, node)) in [("guest.1", "node1"), ("guest.2", "node2")]
            .into_iter()
            .enumerate()
        {
            let own = BTreeSet::from(cluster.state.tasks[guest].address.both());
            // IPv6 addresses of other nodes are known to nobody here.
            let other = cluster.state.nodes[if node == "node1" { "node2" } else { "node1" }].address(0);
            let mut targets = [given(&cluster), cluster.ports(8080)].concat();
            targets.retain(|target| target.ip() != other.v6);
            let seen = ask(&cluster, guest, &targets);
            assert_eq!(seen[index], own, "by the task of its own node");
            assert_eq!(seen[1 - index], node_vips(), "by that of the other");
            downloads(&cluster, guest, &targets[..2]);
            // The node's own processes, and with them the tasks themselves.
            let own = BTreeSet::from(cluster.state.nodes[node].address(0).both());
            // At the other node, too, which may lead them back to the task on their own. That their own node answers them at its
            // addresses is the work of programs at sockets, which these threads are not among.
            targets.retain(|target| !own.contains(&target.ip()));
            let seen = ask(&cluster, node, &targets);
            assert_eq!(seen[index], node_vips(), "by the task of its own node");
            assert_eq!(seen[1 - index], own, "by that of the other");
            downloads(&cluster, node, &given(&cluster));
        }
    }
    assert_eq!(cluster.counted("failed").unwrap(), 0);
}

#[test]
fn connections_of_tasks_on_the_hosts_network_outlive_the_agent() {
    let Some((mut cluster, targets)) = stage("hostagent") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &targets, 24).unwrap();
    assert_eq!(idle.by_task().len(), 2);
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    load.wait_for(50).unwrap();
    for node in cluster.nodes() {
        cluster.kill_agent(&node).unwrap();
        load.wait_for(50).unwrap();
        cluster.start_agent(&node).unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
        load.wait_for(50).unwrap();
    }
    let report = load.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.clients, address::CLIENT.both().into());
    assert_eq!(idle.prove(), Ok(()));
}

#[test]
fn a_task_on_the_hosts_network_that_stops_listening_gets_no_more_connections() {
    let Some((mut cluster, targets)) = stage("hostgone") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &targets, 24).unwrap();
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    load.wait_for(50).unwrap();
    idle.retain(|task| task == "web.1");
    // Nobody is told: the node is asked, and finds that nobody listens.
    cluster.signal_task("web.2", Signal::SIGTERM).unwrap();
    load.wait_for(200).unwrap();
    let report = load.stop().unwrap();
    let mut lost = 0;
    wait::until_some("the task has counted what it lost", SOON, || {
        lost = cluster.lost_by_closing("web.2")?;
        Ok::<_, anyhow::Error>(Some(()))
    })
    .unwrap();
    // What waited in its accept queue.
    assert!(
        report.failures.len() as u64 <= lost,
        "{lost} lost, {}",
        report.complaint()
    );
    let after = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    after.wait_for(100).unwrap();
    let after = after.stop().unwrap();
    after.assert_flawless();
    assert_eq!(after.tasks(), BTreeSet::from(["web.1"]));
    assert_eq!(idle.prove(), Ok(()));
    // The source tells, and the program that such tasks need goes with the last of them.
    cluster.forget_task("web.2").unwrap();
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    wait::until("the program goes", SOON, || !is_attached(&cluster, "node2")).unwrap();
    assert!(is_attached(&cluster, "node1"));
    ask_one(&cluster, &targets, "web.1");
}

/// Whether the program that such tasks need is attached anywhere on a node.
fn is_attached(cluster: &Cluster, node: &str) -> bool {
    let (prefix, layout) = (&cluster.state.prefix, lb_common::table::LAYOUT);
    let links = format!("/sys/fs/bpf/portico-lab/{prefix}/{node}/v{layout}/links");
    let mut list = cluster.command(node, "ls").unwrap();
    netns::tool::run(list.arg(links)).unwrap().contains("answer-")
}

#[track_caller]
fn ask_one(cluster: &Cluster, targets: &[SocketAddr], task: &str) {
    for &target in targets {
        assert_eq!(http::ask(&cluster.client(), target).unwrap().task, task);
        assert_eq!(udp::ask(&cluster.client(), target).unwrap().0, task);
    }
}

#[test]
fn a_draining_task_on_the_hosts_network_keeps_its_connections_and_gets_no_more() {
    let Some((mut cluster, targets)) = stage("hostdrain") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &targets, 24).unwrap();
    assert_eq!(idle.by_task().len(), 2);
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    load.wait_for(50).unwrap();
    cluster.drain_task("web.1").unwrap();
    cluster.settle().unwrap();
    load.wait_for(50).unwrap();
    load.stop().unwrap().assert_flawless();
    ask_one(&cluster, &targets, "web.2");
    assert_eq!(idle.prove(), Ok(()));
}

#[test]
fn the_health_of_a_task_on_the_hosts_network_is_its_own() {
    let health = "health: { http: /healthz, interval: 200ms, failures: 2, successes: 2 }";
    let same = Service::new(&["9100"]).on_host(TARGET).with(health);
    let Some(cluster) = testing::cluster("hosthealth")
        .nodes(2)
        .service("web", same, 2)
        .stage()
    else {
        return;
    };
    let state = |wanted: &str| {
        wait::until_some(&format!("web.1 is {wanted}"), SOON, || {
            let states = cluster.backend_states("node1")?;
            Ok::<_, anyhow::Error>((states["web.1"] == wanted).then_some(()))
        })
        .unwrap();
    };
    state("active");
    // Nobody listens at the node's own address now. What asks there must not be led to the other node's task.
    cluster.signal_task("web.1", Signal::SIGKILL).unwrap();
    state("unhealthy");
}
