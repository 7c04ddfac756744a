//! A service published on every node answers there, whoever runs its tasks, and the tasks see the client.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netns::client::load::Plan;
use netns::client::{http, udp};
use netns::testing::WEB;
use netns::{Cluster, Service, address, testing};

/// Asks until every task has answered at every target over TCP and UDP, and compares the clients seen.
fn every_target_answers_for_every_task(cluster: &Cluster, targets: &[SocketAddr], tasks: usize) {
    let client = cluster.client();
    for &target in targets {
        let mut count: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        let mut times = Vec::new();
        for _ in 0..40 {
            let began = Instant::now();
            let answer = http::ask(&client, target).unwrap_or_else(|error| panic!("{target}: {error:#}"));
            assert_eq!(
                answer.client,
                address::CLIENT.like(target.ip()),
                "seen by {}",
                answer.task
            );
            count.entry(answer.task).or_default()[0] += 1;
            let (task, seen) =
                udp::ask(&client, target).unwrap_or_else(|error| panic!("{target}: {error:#}"));
            assert_eq!(seen, address::CLIENT.like(target.ip()), "seen by {task}");
            count.entry(task).or_default()[1] += 1;
            times.push(began.elapsed());
        }
        // Packets that wait for something (a ring that nobody empties, a lost SYN sent again) take longer, all of them.
        times.sort();
        assert!(times[20] < Duration::from_millis(150), "{target}: {times:?}");
        // With three tasks, 40 connections all miss one of them once in ten million runs.
        assert_eq!(count.len(), tasks, "{target}: {count:?}");
        assert!(
            count.values().flatten().all(|&number| number > 0),
            "{target}: {count:?}"
        );
    }
}

#[test]
fn every_node_answers_for_tasks_on_every_node_with_the_clients_address_kept() {
    let Some(cluster) = testing::web("mesh", 3).stage() else {
        return;
    };
    every_target_answers_for_every_task(&cluster, &cluster.ports(8080), 3);
}

#[test]
fn native_xdp_on_the_uplinks_behaves_the_same() {
    let Some(cluster) = testing::web("native", 3).xdp("native").stage() else {
        return;
    };
    every_target_answers_for_every_task(&cluster, &cluster.ports(8080), 3);
}

#[test]
fn generic_xdp_on_the_uplinks_behaves_the_same() {
    let Some(cluster) = testing::web("generic", 3).xdp("generic").stage() else {
        return;
    };
    every_target_answers_for_every_task(&cluster, &cluster.ports(8080), 3);
}

#[test]
fn a_vip_answers_by_whichever_node_the_router_chooses() {
    let web = Service::new(&WEB).vip(1);
    let Some(cluster) = testing::cluster("vip").service("web", web, 3).stage() else {
        return;
    };
    let vips = address::vip(1).both().map(|vip| SocketAddr::new(vip, 8080));
    every_target_answers_for_every_task(&cluster, &vips, 3);
    for node in cluster.nodes() {
        cluster.send_vips(&[&node]).unwrap();
        every_target_answers_for_every_task(&cluster, &vips, 3);
    }
}

#[test]
fn two_services_share_a_port_number_over_different_protocols() {
    let Some(cluster) = testing::cluster("ports")
        .service("web", Service::new(&["8080:80/tcp"]), 2)
        .service("dns", Service::new(&["8080:80/udp"]), 2)
        .stage()
    else {
        return;
    };
    for target in cluster.ports(8080) {
        for _ in 0..10 {
            assert_eq!(http::ask(&cluster.client(), target).unwrap().service, "web");
            assert!(udp::ask(&cluster.client(), target).unwrap().0.starts_with("dns."));
        }
    }
}

/// The bound is the issue's: 5 % over 10,000 connections. Weights: 4096 slots over a weight of 4 leave the least even
/// backend within 10 % (flow-placement.md: a few per cent at 1600 slots per backend).
#[test]
fn ten_thousand_connections_spread_as_the_head_table_says() {
    let web = Service::new(&WEB).with("slots: 8192");
    let Some(mut cluster) = testing::cluster("spread").service("web", web, 3).stage() else {
        return;
    };
    cluster
        .state
        .tasks
        .entry("web.2".into())
        .and_modify(|task| task.weight = Some(2));
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    let sources: Vec<IpAddr> = (0..60)
        .map(|number| address::client_more(number).v4.into())
        .collect();
    let targets: Vec<SocketAddr> = cluster
        .ports(8080)
        .into_iter()
        .filter(SocketAddr::is_ipv4)
        .collect();
    let load = Plan {
        sources,
        rate: 4000.0,
        ..Plan::new_connections(&targets, 0.0)
    }
    .start(&cluster.client());
    // Of 10,000 a quarter strays by 5 % once in 300 runs by chance alone; of these, once in 200,000.
    load.wait_for(25_000).unwrap();
    let report = load.stop().unwrap();
    report.assert_flawless();

    let explained = cluster.portico_json("node1", &["explain", "web"]).unwrap();
    let table = explained["tables"]
        .as_array()
        .unwrap()
        .iter()
        .find(|table| table["family"] == "IPv4")
        .unwrap();
    let slots = table["slots"].as_f64().unwrap();
    for share in table["shares"].as_array().unwrap() {
        let task = share["task"].as_str().unwrap();
        let of_slots = share["slots"].as_f64().unwrap() / slots;
        let of_requests = report.of_task(task) as f64 / report.requests() as f64;
        let of_weights = if task == "web.2" { 0.5 } else { 0.25 };
        assert!(
            (of_requests / of_slots - 1.0).abs() < 0.05,
            "{task}: {of_requests} of requests, {of_slots} of slots"
        );
        assert!(
            (of_slots / of_weights - 1.0).abs() < 0.10,
            "{task}: {of_slots} of slots, {of_weights} of weights"
        );
    }
}
