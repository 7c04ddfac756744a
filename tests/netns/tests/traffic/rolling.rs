//! Test 4 of flow-placement.md: rolling updates without any hold. A task closes its listener at SIGTERM, and nobody
//! waits until the nodes know of it: no new connection is refused or reset.

use std::time::Duration;

use netns::client::load::Plan;
use netns::client::report::Kind;
use netns::testing;
use nix::sys::signal::Signal;

/// Replaces every task, one after another: the new one starts, the old one is told to go at once.
fn roll(name: &str, replicas: u32, lag: Duration) {
    let Some(mut cluster) = testing::web(name, replicas).stage() else {
        return;
    };
    let plan = Plan {
        // A SYN that finds no listener anywhere is dropped, and sent again after 1, 3, 7 and 15 s.
        patience: Duration::from_secs(20),
        workers: 32,
        ..Plan::new_connections(&cluster.ports(8080), 150.0)
    };
    let load = plan.start(&cluster.client());
    load.wait_for(50).unwrap();
    let mut excused = 0;
    let mut lags = Vec::new();
    for number in 1..=replicas {
        let old = format!("web.{number}");
        // Another node is late each time.
        let late = |node: u32| lag * ((node + number) % 3) / 2;
        let delays = [("node1", late(0)), ("node2", late(1)), ("node3", late(2))];
        let node = cluster.task(&old).unwrap().node.clone();
        cluster.add_task("web", Some(&node)).unwrap();
        lags.push(cluster.publish_lagging(&delays).unwrap());
        cluster.signal_task(&old, Signal::SIGTERM).unwrap();
        load.wait_for(100).unwrap();
        let process = cluster.task(&old).unwrap().process.unwrap();
        process.wait_gone(Duration::from_secs(15)).unwrap();
        // Not the resets that its kernel sent: it answers segments that are misdelivered with resets, too.
        excused += cluster.lost_by_closing(&old).unwrap();
        cluster.forget_task(&old).unwrap();
        lags.push(cluster.publish_lagging(&delays).unwrap());
        load.wait_for(100).unwrap();
        // Views are as late as said above: how long a busy machine keeps an agent waiting is not what is shown.
        cluster.keep_up().unwrap();
    }
    lags.into_iter().for_each(|lag| lag.over().unwrap());
    cluster.settle().unwrap();
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    let lost = |failure: &&netns::client::report::Failure| matches!(failure.kind, Kind::Reset | Kind::Closed);
    assert!(
        report.failures.iter().all(|failure| lost(&failure)),
        "{}",
        report.complaint()
    );
    assert!(
        report.failures.len() as u64 <= excused,
        "{}; the tasks lost {excused} by closing their listeners",
        report.complaint()
    );
}

#[test]
fn one_replica_rolls_without_a_refused_connection() {
    roll("roll1", 1, Duration::ZERO);
}

#[test]
fn one_replica_rolls_while_views_lag_two_seconds() {
    roll("roll1lag", 1, Duration::from_secs(2));
}

#[test]
fn three_replicas_roll_without_a_refused_connection() {
    roll("roll3", 3, Duration::ZERO);
}

#[test]
fn three_replicas_roll_while_views_lag_five_seconds() {
    roll("roll3lag", 3, Duration::from_secs(5));
}

#[test]
fn six_replicas_roll_while_views_lag_a_second() {
    roll("roll6lag", 6, Duration::from_secs(1));
}

#[test]
fn one_replica_rolls_while_views_lag_five_seconds() {
    roll("roll1late", 1, Duration::from_secs(5));
}

#[test]
fn six_replicas_roll_without_a_refused_connection() {
    roll("roll6", 6, Duration::ZERO);
}

#[test]
fn six_replicas_roll_while_views_lag_five_seconds() {
    roll("roll6late", 6, Duration::from_secs(5));
}
