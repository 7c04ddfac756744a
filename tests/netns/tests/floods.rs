//! Test 5 of flow-placement.md, floods: live flows are unharmed, tables and answers stay within their limits.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use netns::client::idle::Idle;
use netns::client::load::Plan;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Segment, flag};
use netns::testing::Stage;
use netns::{Cluster, testing};

const PACKETS: u32 = 100_000;
/// Chases and resets allowed each second and CPU.
const LIMIT: u64 = 500;

/// Packets of ever new flows from addresses of a range that leads nowhere.
fn flood(cluster: &Cluster, flags: u8) -> f64 {
    let wire = Wire::of_client(cluster).unwrap();
    let targets: Vec<SocketAddr> = cluster
        .ports(8080)
        .into_iter()
        .filter(SocketAddr::is_ipv4)
        .collect();
    let began = Instant::now();
    for number in 0..PACKETS {
        let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 128, 0)) + number / 50);
        let segment = Segment {
            from: SocketAddr::new(IpAddr::V4(client), 1024 + (number % 50_000) as u16),
            to: targets[number as usize % targets.len()],
            flags,
            sequence: number.wrapping_mul(2_654_435_761),
            acknowledgement: number.wrapping_mul(40_503),
            payload: Vec::new(),
        };
        // A full queue of the device is a lost packet, as on any wire.
        let _ = wire.send(&segment.frame(&wire));
    }
    began.elapsed().as_secs_f64()
}

fn cluster(name: &str) -> Option<Stage> {
    let limits = format!("[limits]\nchases = {LIMIT}\nresets = {LIMIT}\n");
    let cluster = testing::web(name, 3).configuration(&limits).stage()?;
    // Where the flood's clients would be: nowhere, and no router says so.
    let nowhere = ["route add blackhole 198.18.128.0/17".to_owned()];
    netns::tool::ip(Some(cluster.router().name()), &nowhere).unwrap();
    Some(cluster)
}

fn established(cluster: &Cluster) -> u64 {
    let flows = |node: &String| {
        let status = cluster.portico_json(node, &["status"]).unwrap();
        status["planes"][0]["report"]["flows"]["established"]
            .as_u64()
            .unwrap()
    };
    cluster.nodes().iter().map(flows).sum()
}

#[test]
fn a_syn_flood_harms_no_live_flow_and_leaves_nothing_in_the_established_table() {
    let Some(cluster) = cluster("synflood") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 120).unwrap();
    let kept = Plan::keep_alive(&cluster.ports(8080), 50.0).start(&cluster.client());
    kept.wait_for(50).unwrap();
    flood(&cluster, flag::SYN);
    kept.wait_for(50).unwrap();
    kept.stop().unwrap().assert_flawless();
    idle.prove()
        .unwrap_or_else(|dead| panic!("{} died: {dead:#?}", dead.len()));
    assert!(
        established(&cluster) < 1000,
        "{} established",
        established(&cluster)
    );
    // New connections work at once: nothing is full.
    let fresh = Plan::new_connections(&cluster.ports(8080), 100.0).start(&cluster.client());
    fresh.wait_for(100).unwrap();
    fresh.stop().unwrap().assert_flawless();
}

#[test]
fn a_flood_of_bogus_acknowledgements_is_chased_and_reset_within_the_limits() {
    let Some(mut cluster) = cluster("ackflood") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 120).unwrap();
    // Slots that moved have chains worth chasing along.
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    let kept = Plan::keep_alive(&cluster.ports(8080), 50.0).start(&cluster.client());
    kept.wait_for(50).unwrap();
    let (chased, reset) = (
        cluster.counted("chased").unwrap(),
        cluster.counted("reset").unwrap(),
    );
    let seconds = flood(&cluster, flag::ACK);
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    let nodes = cluster.nodes().len() as u64;
    // A tick is 1.07 s, and one more may have begun on either side.
    let allowed = LIMIT * cpus * nodes * (seconds.ceil() as u64 + 2);
    let (chased, reset) = (
        cluster.counted("chased").unwrap() - chased,
        cluster.counted("reset").unwrap() - reset,
    );
    assert!(
        chased <= allowed,
        "{chased} chased in {seconds:.1} s, {allowed} allowed"
    );
    assert!(
        reset <= allowed,
        "{reset} reset in {seconds:.1} s, {allowed} allowed"
    );
    assert!(reset > 0);
    kept.wait_for(50).unwrap();
    kept.stop().unwrap().assert_flawless();
    idle.prove()
        .unwrap_or_else(|dead| panic!("{} died: {dead:#?}", dead.len()));
}
