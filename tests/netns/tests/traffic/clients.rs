//! The clients themselves, over a translation by nftables on one node: they see what happens, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use netns::client::idle::Idle;
use netns::client::load::Plan;
use netns::client::report::Kind;
use netns::client::udp::Sender;
use netns::testing::Stage;
use netns::{address, testing, tool};

const RULES: &str = "table inet lab {
    chain pre {
        type nat hook prerouting priority dstnat;
        ip daddr 192.0.2.11 meta l4proto { tcp, udp } th dport 8080 dnat ip to 172.18.0.2:80
        ip6 daddr 2001:db8:2::11 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [2001:db8:18::2]:80
    }
}";

fn translated(name: &str) -> Option<(Stage, Vec<SocketAddr>)> {
    let cluster = testing::web(name, 1).nodes(1).without_agents().stage()?;
    tool::run(cluster.place("node1").command("nft").unwrap().arg(RULES)).unwrap();
    let targets = cluster.ports(8080);
    Some((cluster, targets))
}

#[test]
fn a_load_on_a_quiet_cluster_is_flawless() {
    let Some((cluster, targets)) = translated("quiet") else {
        return;
    };
    for plan in [
        Plan::keep_alive(&targets, 400.0),
        Plan::new_connections(&targets, 400.0),
    ] {
        let kept = plan.keep_alive;
        let load = plan.start(&cluster.client());
        load.wait_for(400).unwrap();
        let report = load.stop().unwrap();
        report.assert_flawless();
        assert_eq!(report.clients, address::CLIENT.both().into());
        assert_eq!(
            report.connections < 20,
            kept,
            "{} connections",
            report.connections
        );
    }
}

#[test]
fn a_task_that_dies_is_seen_as_failures_of_the_right_kind() {
    let Some((cluster, targets)) = translated("dies") else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &targets, 10).unwrap();
    assert_eq!(idle.prove(), Ok(()));
    let load = Plan::new_connections(&targets, 200.0).start(&cluster.client());
    let sender = Sender::start(&cluster.client(), targets[0], 100.0);
    load.wait_for(100).unwrap();
    cluster
        .signal_task("web.1", nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    let refused = report
        .failures
        .iter()
        .filter(|failure| failure.kind == Kind::Refused)
        .count();
    assert!(refused > 50, "{}", report.complaint());
    let account = sender.stop().unwrap();
    assert!(
        account.lost() > 20 && account.by_task()["web.1"] > 20,
        "{:?}",
        account.by_task()
    );
    // The other tasks' answers went on; a busy machine may pause a sender for a while.
    assert!(account.longest_silence() < Duration::from_secs(2));
    assert_eq!(idle.prove().unwrap_err().len(), 10);
}

#[test]
fn a_task_told_to_end_gives_kept_connections_a_last_answer() {
    let Some((cluster, targets)) = translated("last") else {
        return;
    };
    let load = Plan::keep_alive(&targets, 200.0).start(&cluster.client());
    load.wait_for(100).unwrap();
    cluster
        .signal_task("web.1", nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    // Its listener is closed, so what follows is refused; what it had is neither reset nor cut.
    assert!(!report.failures.is_empty());
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.kind == Kind::Refused),
        "{}",
        report.complaint()
    );
}
