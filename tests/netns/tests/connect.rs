//! connect() leads a process of the node straight to a task, where all of a service's tasks can be reached so; packets do the
//! rest. Processes here run in their node's cgroup, as everything on a real machine does.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support/caller.rs"]
mod caller;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use caller::Caller;
use netns::testing::Stage;
use netns::{Service, address, cgroup, testing, wait};

/// Ports of the service `near`, whose tasks all run on the first node.
const NEAR: [&str; 2] = ["8080:80", "8080:80/udp"];

/// Two nodes; all tasks of `near` run on the first, one of `far` on each. Both have VIPs.
fn stage(name: &str) -> Option<Stage> {
    let far = Service::new(&["8081:80"]).vip(2);
    let mut cluster = testing::cluster(name)
        .nodes(2)
        .service("near", Service::new(&NEAR).vip(1), 0)
        .service("far", far, 2)
        .stage()?;
    if cgroup::of(&cluster.state.prefix, "node1").is_none() {
        assert!(
            std::env::var("CI").is_err(),
            "{name} needs cgroup2, and CI has it"
        );
        eprintln!("{name} SKIPPED: this machine has no cgroup2");
        return None;
    }
    for _ in 0..3 {
        cluster.add_task("near", Some("node1")).unwrap();
    }
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    hooked(&cluster);
    Some(cluster)
}

/// Tasks are found a moment after they are known; until then connections are left to the packets.
fn hooked(cluster: &Stage) {
    let vip = address::vip(1).v4.to_string();
    wait::until("connect() leads to tasks", Duration::from_secs(10), || {
        let caller = Caller::connect(cluster, "node1", &vip, 8080);
        caller.first["peer"].is_string() && caller.leads_to(cluster, "node1").starts_with("172.18.0.")
    })
    .unwrap();
}

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
fn sockets_of_a_task_that_is_gone_end_within_a_tenth_of_a_second() {
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
        assert!(took < Duration::from_millis(100), "{vip}: {took:?}");
        cluster.settle().unwrap();
        // The other one waits for bytes that nobody sends; whoever is asked still answers.
        drop(other);
        assert_eq!(Caller::connect(&cluster, "node1", &vip, 8080).peer().0, vip);
    }
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
    // Whether anybody answers is not asked here: a socket on its way shows where it leads.
    let mut command = cluster.command("node1", "python3").unwrap();
    let script = "import socket, time\n\
        s = socket.socket(); s.setblocking(False); s.connect_ex((\"203.0.113.2\", 8081))\n\
        time.sleep(20)";
    let mut child = command
        .args(["-c", script])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let seen = wait::until("the socket leads to the VIP", Duration::from_secs(5), || {
        let mut ss = cluster.command("node1", "ss").unwrap();
        let text = netns::tool::run(ss.args(["-Htna", "dst", "203.0.113.2"])).unwrap();
        text.contains("203.0.113.2:8081")
    });
    let _ = child.kill();
    let _ = child.wait();
    seen.unwrap();
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
    assert_eq!(attached(&cluster), 8);
    for _ in 0..2 {
        cluster.kill_agent("node1").unwrap();
        cluster.start_agent("node1").unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
        assert_eq!(attached(&cluster), 8);
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
