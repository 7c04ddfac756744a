//! connect() leads a process of the node straight to a task, where all of a service's tasks can be reached so; packets do the
//! rest.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netns::testing::Stage;
use netns::{Service, address, cgroup, testing, tool, wait};

use crate::support::caller::Caller;
use crate::support::near_and_far::{both_answer, far, hooked, stage, stage_with};

/// The addresses of a VIP, and the IPv4 one as an IPv6 socket may ask for it.
fn vips(number: u8) -> [String; 3] {
    let vip = address::vip(number);
    [
        vip.v4.to_string(),
        vip.v6.to_string(),
        format!("::ffff:{}", vip.v4),
    ]
}

#[test]
fn a_connection_shows_the_vip_to_its_process_and_leads_to_a_task() {
    let Some(cluster) = stage("peer") else { return };
    for vip in vips(1) {
        let mut caller = Caller::connect(&cluster, "node1", &vip, 8080);
        assert_eq!(caller.peer(), (vip.as_str(), 8080));
        let name = caller.task();
        let task = cluster.task(&name).unwrap();
        let leads_to = caller.leads_to(&cluster, "node1");
        let wanted = match vip.as_str() {
            mapped if mapped.starts_with("::ffff:") => format!("[::ffff:{}]:80", task.address.v4),
            vip if vip.contains(':') => format!("[{}]:80", task.address.v6),
            _ => format!("{}:80", task.address.v4),
        };
        assert_eq!(leads_to, wanted, "{vip} is answered by {name}");
    }
}

#[test]
fn connections_of_the_node_are_balanced_over_its_tasks_and_a_draining_one_gets_no_new() {
    let Some(mut cluster) = stage("balanced") else {
        return;
    };
    let [vip, ..] = vips(1);
    let count = |cluster: &Stage, times: usize| {
        let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..times {
            *tasks
                .entry(Caller::connect(cluster, "node1", &vip, 8080).task())
                .or_default() += 1;
        }
        tasks
    };
    // Of 60, a task gets fewer than 6 once in a hundred thousand runs.
    let tasks = count(&cluster, 60);
    assert_eq!(tasks.len(), 3, "{tasks:?}");
    assert!(tasks.values().all(|&count| count >= 6), "{tasks:?}");

    let mut early = loop {
        let mut caller = Caller::connect(&cluster, "node1", &vip, 8080);
        if caller.task() == "near.1" {
            break caller;
        }
    };
    cluster.drain_task("near.1").unwrap();
    cluster.settle().unwrap();
    let tasks = count(&cluster, 20);
    assert!(!tasks.contains_key("near.1"), "{tasks:?}");
    assert_eq!(early.task(), "near.1");
}

/// The task's machine loses power: nothing that it could say is heard, and its client waits for an answer.
#[test]
fn sockets_of_a_task_that_is_gone_end_at_once() {
    let Some(mut cluster) = stage("ended") else { return };
    let stays = cluster.add_task("near", Some("node1")).unwrap();
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    for (vip, name) in vips(1).into_iter().zip(["near.1", "near.2", "near.3"]) {
        let led = |wanted: &str| {
            let mut caller = Caller::connect(&cluster, "node1", &vip, 8080);
            (caller.task() == wanted).then_some(caller)
        };
        let ((mut doomed, mut other), _) =
            wait::until_some("both tasks are met", Duration::from_secs(60), || {
                Ok::<_, String>(led(name).zip(led(&stays)))
            })
            .unwrap();
        cluster.unplug_task(name).unwrap();
        doomed.tell("end");
        other.tell("end");
        cluster.forget_task(name).unwrap();
        let began = Instant::now();
        cluster.publish().unwrap();
        assert_eq!(doomed.hear()["error"], "ECONNABORTED");
        let took = began.elapsed();
        // 100 ms is what is promised; asserted is what a machine under load keeps too, and far less than any timer of TCP.
        println!("{vip}: its socket ended after {took:?}");
        assert!(took < Duration::from_secs(1), "{vip}: {took:?}");
        cluster.settle().unwrap();
        // The other one waits for bytes that nobody sends; whoever is asked still answers.
        drop(other);
        assert_eq!(Caller::connect(&cluster, "node1", &vip, 8080).peer().0, vip);
    }
}

/// A task that keeps its name and comes up with another address: what leads to the old one leads to nobody.
#[test]
fn sockets_of_a_task_that_moved_end_and_those_that_follow_it_stay() {
    let Some(mut cluster) = stage("moved") else { return };
    let [vip, ..] = vips(1);
    let met = |cluster: &Stage, wanted: &str| {
        let meet = || {
            let mut caller = Caller::connect(cluster, "node1", &vip, 8080);
            Ok::<_, String>((caller.task() == wanted).then_some(caller))
        };
        wait::until_some(wanted, Duration::from_secs(60), meet).unwrap().0
    };
    let mut old = ["near.1", "near.2"].map(|name| met(&cluster, name));
    old.iter_mut().for_each(|caller| caller.tell("end"));
    // Each comes up with the other's address.
    let [one, two] = ["near.1", "near.2"].map(|name| cluster.task(name).unwrap().address);
    for (name, address) in [("near.1", two), ("near.2", one)] {
        let moved = |task: &mut netns::state::Task| task.address = address;
        cluster.state.tasks.entry(name.into()).and_modify(moved);
    }
    cluster.publish().unwrap();
    for caller in &mut old {
        assert_eq!(caller.hear()["error"], "ECONNABORTED");
    }
    let mut new = met(&cluster, "near.1");
    // Longer than those who left are looked for.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(new.task(), "near.1");
}

#[test]
fn a_socket_is_forgotten_when_it_is_closed() {
    let Some(cluster) = stage("closed") else { return };
    let pins = format!(
        "/sys/fs/bpf/portico-lab/{}/node1/v{}",
        cluster.state.prefix,
        lb_common::table::LAYOUT
    );
    let noted = || {
        ["SOCKET", "DATAGRAM"].map(|map| {
            let mut bpftool = cluster.command("node1", "bpftool").unwrap();
            let text = tool::run(bpftool.args(["-j", "map", "dump", "pinned", &format!("{pins}/{map}")]));
            let entries: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
            entries.as_array().unwrap().len()
        })
    };
    let nobody = || wait::until("all are closed", Duration::from_secs(10), || noted() == [0, 0]);
    nobody().unwrap();
    let [vip, ..] = vips(1);
    let callers = (
        Caller::connect(&cluster, "node1", &vip, 8080),
        Caller::connect(&cluster, "node1", "::1", 8081),
    );
    assert_eq!(noted(), [2, 0]);
    let mut datagrams = Caller::start(&cluster, "node1", &["127.0.0.1", "8081", "udp"]);
    datagrams.ask();
    datagrams.ask();
    assert_eq!(noted(), [3, 1]);
    drop((callers, datagrams));
    nobody().unwrap();
}

#[test]
fn sockets_that_lead_to_nobody_end_when_an_agent_comes_back() {
    let Some(mut cluster) = stage("nobody") else {
        return;
    };
    let [vip, ..] = vips(1);
    let mut caller = Caller::connect(&cluster, "node1", &vip, 8080);
    let name = caller.task();
    caller.tell("end");
    cluster.kill_agent("node1").unwrap();
    // Programs stay at work without an agent.
    assert_eq!(
        Caller::connect(&cluster, "node1", &vip, 8080).peer(),
        (vip.as_str(), 8080)
    );
    cluster.unplug_task(&name).unwrap();
    cluster.stop_task(&name).unwrap();
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    assert_eq!(caller.hear()["error"], "ECONNABORTED");
    hooked(&cluster);
}

#[test]
fn a_service_with_a_task_elsewhere_is_left_to_the_packets() {
    let Some(cluster) = stage("elsewhere") else { return };
    let vip = far(&cluster);
    let caller = Caller::connect(&cluster, "node1", &vip.ip().to_string(), vip.port());
    assert_eq!(caller.leads_to(&cluster, "node1"), vip.to_string());
    both_answer(&cluster, &vip.ip().to_string(), vip.port());
}

/// The lab's bridges are no flat network, but as long as all tasks are on one node nobody sees the difference.
#[test]
fn on_a_flat_network_a_containers_connection_leads_to_a_task_and_ends_with_it() {
    let flat = "[networks]\nflat = [\"172.18.0.0/16\", \"2001:db8:18::/64\"]";
    let Some(mut cluster) = stage_with("flat", flat) else {
        return;
    };
    for (vip, name) in vips(1).into_iter().zip(["near.1", "near.2"]) {
        let ((mut doomed, leads_to), _) =
            wait::until_some("the task is met", Duration::from_secs(60), || {
                let mut caller = Caller::connect(&cluster, "near.3", &vip, 8080);
                assert_eq!(caller.peer().0, vip);
                let leads_to = caller.leads_to(&cluster, "near.3");
                Ok::<_, String>((caller.task() == name).then_some((caller, leads_to)))
            })
            .unwrap();
        let task = cluster.task(name).unwrap().address;
        let own = if vip.contains(':') {
            format!("[{}]:80", task.v6)
        } else {
            format!("{}:80", task.v4)
        };
        assert_eq!(leads_to, own);
        // The node's own addresses may be others' in a container's namespace.
        let node = cluster.state.nodes["node1"].address(0).v4.to_string();
        let caller = wait::until_some("a task answers by packets", Duration::from_secs(60), || {
            let caller = Caller::connect(&cluster, "near.3", &node, 8081);
            Ok::<_, String>(caller.first["own"].is_u64().then_some(caller))
        });
        let (caller, _) = caller.unwrap();
        assert_eq!(caller.leads_to(&cluster, "near.3"), format!("{node}:8081"));
        cluster.unplug_task(name).unwrap();
        doomed.tell("end");
        cluster.forget_task(name).unwrap();
        let began = Instant::now();
        cluster.publish().unwrap();
        assert_eq!(doomed.hear()["error"], "ECONNABORTED");
        assert!(
            began.elapsed() < Duration::from_millis(200),
            "{vip}: {:?}",
            began.elapsed()
        );
        cluster.settle().unwrap();
    }
}

#[test]
fn an_agent_that_starts_adopts_the_programs_and_one_that_shall_not_have_them_takes_them_off() {
    let Some(mut cluster) = stage("adopts") else {
        return;
    };
    let [vip, ..] = vips(1);
    let attached = |cluster: &Stage| {
        let path = cgroup::of(&cluster.state.prefix, "node1").unwrap();
        let output = std::process::Command::new("bpftool")
            .args(["-j", "cgroup", "show"])
            .arg(path)
            .output()
            .unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown.as_array().map_or(0, Vec::len)
    };
    assert_eq!(attached(&cluster), 9);
    for _ in 0..2 {
        cluster.kill_agent("node1").unwrap();
        cluster.start_agent("node1").unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
        assert_eq!(attached(&cluster), 9);
    }
    let status = cluster.portico("node1", &["status"]).unwrap();
    assert!(status.contains("programs at sockets: attached to /"), "{status}");
    assert_eq!(
        Caller::connect(&cluster, "node1", &vip, 8080).peer(),
        (vip.as_str(), 8080)
    );

    let file = cluster.configuration_file("node1");
    cluster.kill_agent("node1").unwrap();
    cluster.state.configuration.push_str("[cgroup]\nattach = false\n");
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    assert!(fs::read_to_string(file).unwrap().contains("attach = false"));
    assert_eq!(attached(&cluster), 0);
}

/// As where a container's runtime shows it a part of the hierarchy only, or none.
#[test]
fn without_a_cgroup_the_mesh_serves_and_says_what_is_missing() {
    let Some(cluster) = testing::cluster("nogroup")
        .nodes(2)
        .service("far", Service::new(&["8081:80"]), 2)
        .configuration("[cgroup]\npath = \"/proc\"")
        .stage()
    else {
        return;
    };
    let status = cluster.portico("node1", &["status"]).unwrap();
    assert!(
        status.contains("cannot use the cgroup /proc: it is not on a cgroup2 file system"),
        "{status}"
    );
    assert!(status.contains("programs at sockets: not attached"), "{status}");
    let client: IpAddr = address::CLIENT.v4.into();
    for target in cluster.ports(8081) {
        let answer = netns::client::http::ask(&cluster.client(), target).unwrap();
        assert_eq!(answer.client.is_ipv4(), target.is_ipv4(), "{client}");
    }
}
