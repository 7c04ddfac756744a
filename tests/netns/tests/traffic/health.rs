//! A backend that fails its health check is left alone until it is well again.

use std::fs;
use std::time::{Duration, Instant};

use netns::client::load::Plan;
use netns::{Cluster, Service, testing, wait};
use nix::sys::signal::Signal;

/// Long beside what a busy machine adds.
const INTERVAL: Duration = Duration::from_secs(1);
const FAILURES: u32 = 3;

fn everywhere(cluster: &Cluster, wanted: &str) -> Duration {
    let says = |node: &String| {
        cluster
            .backend_states(node)
            .is_ok_and(|states| states["web.2"] == wanted)
    };
    let what = format!("web.2 is {wanted} on every node");
    wait::until(&what, Duration::from_secs(20), || {
        cluster.nodes().iter().all(says)
    })
    .unwrap()
}

fn requests_to_web_2(cluster: &Cluster) -> u64 {
    let load = Plan::new_connections(&cluster.ports(8080), 300.0).start(&cluster.client());
    load.wait_for(200).unwrap();
    let report = load.stop().unwrap();
    report.assert_flawless();
    report.of_task("web.2")
}

#[test]
fn a_sick_backend_gets_no_connections_within_interval_times_threshold_and_returns_when_well() {
    let web = Service::new(&["8080:80"]).with(&format!(
        "health: {{ http: /healthz, interval: {INTERVAL:?}, failures: {FAILURES} }}"
    ));
    let Some(cluster) = testing::cluster("health").service("web", web, 3).stage() else {
        return;
    };
    assert!(requests_to_web_2(&cluster) > 0);

    let through = Plan::new_connections(&cluster.ports(8080), 100.0).start(&cluster.client());
    let began = Instant::now();
    fs::write(cluster.health_file("web.2"), "").unwrap();
    everywhere(&cluster, "unhealthy");
    // Jitter, the way to the other nodes (a heartbeat), and what asking costs: less than two failures more would take.
    let allowance = INTERVAL * 2;
    let took = began.elapsed();
    assert!(took < INTERVAL * FAILURES + allowance, "it took {took:?}");
    assert_eq!(requests_to_web_2(&cluster), 0);

    fs::remove_file(cluster.health_file("web.2")).unwrap();
    everywhere(&cluster, "active");
    assert!(requests_to_web_2(&cluster) > 0);
    through.stop().unwrap().assert_flawless();
}

#[test]
fn a_task_that_is_killed_is_found_by_a_tcp_check() {
    let web = Service::new(&["8080:80"]).with("health: { tcp: true, interval: 300ms, failures: 2 }");
    let Some(mut cluster) = testing::cluster("tcpcheck").service("web", web, 3).stage() else {
        return;
    };
    cluster.signal_task("web.2", Signal::SIGKILL).unwrap();
    everywhere(&cluster, "unhealthy");
    assert_eq!(requests_to_web_2(&cluster), 0);
    cluster.start_task("web.2", &[]).unwrap();
    everywhere(&cluster, "active");
    assert!(requests_to_web_2(&cluster) > 0);
}

#[test]
fn a_task_that_hangs_is_out_within_interval_times_failures_and_a_timeout_and_returns() {
    let timeout = INTERVAL;
    let web = Service::new(&["8080:80"]).with(&format!(
        "health: {{ http: /healthz, interval: {INTERVAL:?}, timeout: {timeout:?}, failures: {FAILURES} }}"
    ));
    let Some(cluster) = testing::cluster("hangs").service("web", web, 3).stage() else {
        return;
    };
    assert!(requests_to_web_2(&cluster) > 0);

    // Its kernel goes on accepting, and nobody ever answers.
    let began = Instant::now();
    cluster.signal_task("web.2", Signal::SIGSTOP).unwrap();
    everywhere(&cluster, "unhealthy");
    // Beside the bound, a heartbeat and what a busy machine adds: less than probing after each timeout would take, which is
    // failures × (interval + timeout).
    let took = began.elapsed();
    assert!(
        took < INTERVAL * FAILURES + timeout + INTERVAL,
        "it took {took:?}"
    );
    assert_eq!(requests_to_web_2(&cluster), 0);

    cluster.signal_task("web.2", Signal::SIGCONT).unwrap();
    everywhere(&cluster, "active");
    assert!(requests_to_web_2(&cluster) > 0);
}

#[test]
fn a_service_whose_backends_are_all_sick_is_still_served() {
    let web = Service::new(&["8080:80"]).with("health: { http: /healthz, interval: 200ms, failures: 2 }");
    let Some(cluster) = testing::cluster("allsick").service("web", web, 2).stage() else {
        return;
    };
    for task in ["web.1", "web.2"] {
        fs::write(cluster.health_file(task), "").unwrap();
    }
    everywhere(&cluster, "unhealthy");
    // Better a sick answer than none.
    let load = Plan::new_connections(&cluster.ports(8080), 100.0).start(&cluster.client());
    load.wait_for(50).unwrap();
    load.stop().unwrap().assert_flawless();
}
