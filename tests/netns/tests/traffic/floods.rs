//! Test 5 of flow-placement.md, floods: live flows are unharmed, tables and answers stay within their limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns::client::idle::Idle;
use netns::client::load::Plan;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Segment, flag};
use netns::testing::Stage;
use netns::{Cluster, testing, wait};

use crate::support::tables;

/// Packets of a flood, at least and at most.
const PACKETS: Range<u32> = 100_000..2_000_000;
/// Chases and resets allowed each second and CPU.
const LIMIT: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);
/// Room for half-open flows, per node and family: the flood has fifty times as many.
const HALF_OPEN: usize = 1024;

/// Packets of ever new flows of both families, from addresses of ranges that lead nowhere, until `enough`.
struct Flood {
    enough: Arc<AtomicBool>,
    work: JoinHandle<(u32, f64)>,
}

impl Flood {
    fn start(cluster: &Cluster, flags: u8) -> Self {
        let wire = Wire::of_client(cluster).unwrap();
        let targets = cluster.ports(8080);
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        let work = std::thread::spawn(move || {
            let began = Instant::now();
            let mut sent = 0;
            while sent < PACKETS.start || sent < PACKETS.end && !stop.load(Ordering::Relaxed) {
                let to = targets[sent as usize % targets.len()];
                let segment = Segment {
                    from: SocketAddr::new(nowhere(sent / 50, to), 1024 + (sent % 50_000) as u16),
                    to,
                    flags,
                    sequence: sent.wrapping_mul(2_654_435_761),
                    acknowledgement: sent.wrapping_mul(40_503),
                    payload: Vec::new(),
                };
                // A full queue of the device is a lost packet, as on any wire.
                let _ = wire.send(&segment.frame(&wire));
                sent += 1;
            }
            (sent, began.elapsed().as_secs_f64())
        });
        Self { enough, work }
    }

    /// Ends it: the packets sent, and the seconds it took.
    fn stop(self) -> (u32, f64) {
        assert!(
            !self.work.is_finished(),
            "what was to be seen during the flood took longer than the flood"
        );
        self.enough.store(true, Ordering::Relaxed);
        self.work.join().unwrap()
    }
}

fn nowhere(number: u32, like: SocketAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 128, 0)) + number % 32_768).into()
    } else {
        let [high, low] = [(number >> 16) as u16, number as u16];
        Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, high, low).into()
    }
}

fn cluster(name: &str) -> Option<Stage> {
    let limits = format!("[limits]\nchases = {LIMIT}\nresets = {LIMIT}\nhalf_open = {HALF_OPEN}\n");
    let cluster = testing::web(name, 3).configuration(&limits).stage()?;
    // Where the flood's clients would be: nowhere, and no router says so.
    let nowhere = [
        "route add blackhole 198.18.128.0/17".to_owned(),
        "route add blackhole 2001:db8:dead::/48".to_owned(),
    ];
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
    let flood = Flood::start(&cluster, flag::SYN);
    let full = || tables::all(&cluster).half >= 2 * HALF_OPEN;
    wait::until("half-open flows push each other out", PATIENCE, full).unwrap();
    // Handshakes whose entries are pushed out before they are over, and connections that go on.
    let fresh = Plan::new_connections(&cluster.ports(8080), 50.0).start(&cluster.client());
    fresh.wait_for(100).unwrap();
    kept.wait_for(50).unwrap();
    let (sent, seconds) = flood.stop();
    for load in [fresh, kept] {
        let report = load.stop().unwrap();
        assert!(
            report.failures.is_empty(),
            "{sent} SYNs in {seconds:.1} s: {}",
            report.complaint()
        );
    }
    let half = tables::all(&cluster).half;
    assert!(half <= 2 * HALF_OPEN * cluster.nodes().len(), "{half} half-open");
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
    let flood = Flood::start(&cluster, flag::ACK);
    kept.wait_for(50).unwrap();
    let (sent, seconds) = flood.stop();
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
        "{chased} chased of {sent} in {seconds:.1} s, {allowed} allowed"
    );
    assert!(
        reset <= allowed,
        "{reset} reset of {sent} in {seconds:.1} s, {allowed} allowed"
    );
    assert!(chased > 0 && reset > 0, "{chased} chased, {reset} reset");
    kept.wait_for(50).unwrap();
    kept.stop().unwrap().assert_flawless();
    idle.prove()
        .unwrap_or_else(|dead| panic!("{} died: {dead:#?}", dead.len()));
}
