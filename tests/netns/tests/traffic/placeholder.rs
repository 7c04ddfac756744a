//! A container engine holds the ports that it publishes: that is nobody who listens.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use netns::testing::Stage;
use netns::{tool, wait};

use crate::support::caller::Caller;
use crate::support::near_and_far::stage;

const SOON: Duration = Duration::from_secs(10);

/// A process of the first node that has port 8081.
struct Holder(Child);

impl Holder {
    fn start(cluster: &Stage, name: &str, host: &str) -> Self {
        let mut command = cluster.command("node1", "python3").unwrap();
        let script = include_str!("support/holder.py");
        let mut child = command
            .args(["-c", script, name, host, "8081"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "{name}");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the port of that host leads to whoever listens on the node itself, or to the mesh.
fn leads_here(cluster: &Stage, host: &str, here: bool) {
    let words = format!("{host} leads to a process of the node: {here}");
    wait::until(&words, SOON, || {
        datagram(cluster, host).starts_with("somebody") == here
    })
    .unwrap();
}

/// Who answers.
fn datagram(cluster: &Stage, host: &str) -> String {
    let mut caller = Caller::start(cluster, "node1", &[host, "8081", "udp"]);
    let said = caller.ask();
    let sender = (said["peer"].as_str(), said["port"].as_u64());
    assert_eq!(sender, (Some(host), Some(8081)), "{said}");
    said["text"].as_str().unwrap().to_owned()
}

/// By TCP, both tasks of the service.
fn both_answer(cluster: &Stage, host: &str) {
    let mut tasks = BTreeSet::new();
    // Twenty of one kind come once in a million runs.
    for _ in 0..20 {
        let mut caller = Caller::connect(cluster, "node1", host, 8081);
        assert_eq!(caller.peer(), (host, 8081));
        tasks.insert(caller.task());
        if tasks.len() == 2 {
            return;
        }
    }
    panic!("{host} is answered by {tasks:?} alone");
}

#[test]
fn a_port_that_an_engine_holds_leads_to_the_service_and_one_that_another_has_to_him() {
    let Some(cluster) = stage("placeholder") else {
        return;
    };
    let own = cluster.state.nodes["node1"]
        .address(0)
        .both()
        .map(|ip| ip.to_string());
    let [v4, v6] = &own;
    let hosts = ["127.0.0.1", "::1", v4, v6];

    let somebody = Holder::start(&cluster, "somebody", "any");
    leads_here(&cluster, "127.0.0.1", true);
    leads_here(&cluster, v6, true);
    drop(somebody);

    let engine = Holder::start(&cluster, "docker-proxy", "any");
    for host in hosts {
        // A connection to the engine's process would be closed without an answer.
        wait::until("the mesh answers", SOON, || {
            datagram(&cluster, host).starts_with("task=")
        })
        .unwrap();
        both_answer(&cluster, host);
    }
    // As Docker leads them to one container.
    let rules = "add table ip portico-docker; \
        add chain ip portico-docker output { type nat hook output priority -100; }; \
        add rule ip portico-docker output fib daddr type local tcp dport 8081 dnat to 172.18.0.99:80";
    tool::run(cluster.command("node1", "nft").unwrap().arg(rules)).unwrap();
    for host in ["127.0.0.1", v4] {
        both_answer(&cluster, host);
    }
    tool::run(
        cluster
            .command("node1", "nft")
            .unwrap()
            .arg("delete table ip portico-docker"),
    )
    .unwrap();

    // Who listens at one address goes before what holds all of them.
    let somebody = Holder::start(&cluster, "somebody", "127.0.0.1");
    leads_here(&cluster, "127.0.0.1", true);
    assert!(datagram(&cluster, v4).starts_with("task="));
    drop((engine, somebody));

    // Another one has the engine's port at once.
    let somebody = Holder::start(&cluster, "somebody", "any");
    leads_here(&cluster, "127.0.0.1", true);
    leads_here(&cluster, v6, true);
    drop(somebody);
    leads_here(&cluster, "127.0.0.1", false);
}
