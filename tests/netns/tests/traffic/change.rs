//! Requests at a steady rate while the cluster changes: none fails, none is reset.

use std::time::{Duration, Instant};

use netns::client::load::{Load, Plan};
use netns::{Cluster, testing};

/// Kept connections and new ones, to every node over both families.
fn loads(cluster: &Cluster) -> [Load; 2] {
    let targets = cluster.ports(8080);
    [
        Plan::keep_alive(&targets, 100.0),
        Plan::new_connections(&targets, 100.0),
    ]
    .map(|plan| plan.start(&cluster.client()))
}

fn go_on(loads: &[Load; 2]) {
    loads.iter().for_each(|load| load.wait_for(100).unwrap());
}

fn flawless(loads: [Load; 2]) {
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
}

#[test]
fn scaling_from_three_to_six_and_back_fails_no_request() {
    let Some(mut cluster) = testing::web("scale", 3).stage() else {
        return;
    };
    let loads = loads(&cluster);
    go_on(&loads);
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    go_on(&loads);
    cluster.scale("web", 3).unwrap();
    assert_eq!(
        cluster.state.tasks.keys().collect::<Vec<_>>(),
        ["web.1", "web.2", "web.3"]
    );
    go_on(&loads);
    flawless(loads);
}

/// Of six tasks on three nodes it has two.
fn none_new_on_node2(cluster: &Cluster) {
    let fresh = Plan::new_connections(&cluster.ports(8080), 200.0).start(&cluster.client());
    fresh.wait_for(200).unwrap();
    let report = fresh.stop().unwrap();
    report.assert_flawless();
    assert_eq!(
        report.of_task("web.2") + report.of_task("web.5"),
        0,
        "{:?}",
        report.answers
    );
}

#[test]
fn draining_a_node_and_taking_it_back_fails_no_request() {
    let Some(mut cluster) = testing::web("drain", 6).stage() else {
        return;
    };
    let loads = loads(&cluster);
    go_on(&loads);
    cluster.set_node_draining("node2", true).unwrap();
    cluster.settle().unwrap();
    none_new_on_node2(&cluster);
    cluster.set_node_draining("node2", false).unwrap();
    cluster.settle().unwrap();
    go_on(&loads);
    flawless(loads);
}

#[test]
fn an_operators_drain_reaches_every_agent_and_fails_no_request() {
    let Some(cluster) = testing::web("operator", 6).stage() else {
        return;
    };
    let loads = loads(&cluster);
    let state_everywhere = |wanted: &str| {
        netns::wait::until(
            &format!("node2's tasks are {wanted} everywhere"),
            Duration::from_secs(20),
            || {
                cluster.nodes().iter().all(|node| {
                    cluster
                        .backend_states(node)
                        .is_ok_and(|states| states["web.2"] == wanted && states["web.5"] == wanted)
                })
            },
        )
        .unwrap();
    };
    // Its flows are kept alive here, so it would wait for them until its deadline.
    let _ = cluster.portico("node1", &["drain", "node2", "--timeout", "1s"]);
    state_everywhere("draining");
    none_new_on_node2(&cluster);
    cluster.portico("node3", &["undrain", "node2"]).unwrap();
    state_everywhere("active");
    go_on(&loads);
    flawless(loads);
}

#[test]
fn killing_an_agent_and_starting_it_again_fails_no_request() {
    let Some(mut cluster) = testing::web("agent", 3).stage() else {
        return;
    };
    let loads = loads(&cluster);
    for node in cluster.nodes() {
        go_on(&loads);
        cluster.kill_agent(&node).unwrap();
        go_on(&loads);
        cluster.start_agent(&node).unwrap();
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
    }
    go_on(&loads);
    flawless(loads);
}

/// Its node answers that the agent is away: nobody takes it for dead, and new connections go to its task as before.
#[test]
fn an_agent_away_for_three_seconds_diverts_nobody_and_fails_no_request() {
    let Some(mut cluster) = testing::web("away", 3).stage() else {
        return;
    };
    let others = ["node1", "node3"];
    let suspicions = |cluster: &Cluster| {
        let logs = others.map(|node| std::fs::read_to_string(cluster.agent_log(node)).unwrap());
        let lines = logs.iter().flat_map(|log| log.lines());
        let of_node2 = lines.filter(|line| line.contains("no sign of life") && line.contains("node2"));
        of_node2.count()
    };
    let before = suspicions(&cluster);
    let own: Vec<_> = cluster.state.nodes["node2"].address(0).both().into();
    let mut targets = cluster.ports(8080);
    targets.retain(|target| !own.contains(&target.ip()));
    let kept = Plan::keep_alive(&targets, 100.0).start(&cluster.client());
    kept.wait_for(100).unwrap();

    cluster.kill_agent("node2").unwrap();
    let killed = Instant::now();
    let fresh = Plan::new_connections(&targets, 200.0).start(&cluster.client());
    let away = |node: &str| {
        cluster
            .node_states(node)
            .is_ok_and(|states| states["node2"] == "away")
    };
    netns::wait::until("node2's agent is away", Duration::from_secs(10), || {
        others.into_iter().all(away)
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(3).saturating_sub(killed.elapsed()));
    assert!(others.into_iter().all(away));
    let report = fresh.stop().unwrap();
    report.assert_flawless();
    // A third, less what chance takes.
    let share = report.of_task("web.2") as f64 / report.requests() as f64;
    assert!(share > 0.2, "{share} of {:?}", report.answers);

    cluster.start_agent("node2").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    kept.wait_for(100).unwrap();
    kept.stop().unwrap().assert_flawless();
    assert_eq!(suspicions(&cluster), before, "node2 was suspected");
}

/// With its agent at work, and while only its kernel speaks for it. No request to the others that begins then fails, and once
/// they suspect it none is sent its way.
#[test]
fn a_node_that_is_cut_off_is_suspected_soon_and_trusted_again() {
    let Some(mut cluster) = testing::web("cut", 3).stage() else {
        return;
    };
    let until = |cluster: &Cluster, wanted: &str| {
        netns::wait::until(&format!("node3 is {wanted}"), Duration::from_secs(10), || {
            ["node1", "node2"].iter().all(|node| {
                cluster
                    .node_states(node)
                    .is_ok_and(|states| states["node3"] == wanted)
            })
        })
        .unwrap()
    };
    let (client, mut targets) = (cluster.client(), cluster.ports(8080));
    let own = cluster.state.nodes["node3"].address(0).both();
    targets.retain(|target| !own.contains(&target.ip()));
    let load = || Plan::new_connections(&targets, 200.0).start(&client);
    let flawless = |load: Load| {
        load.wait_for(200).unwrap();
        let report = load.stop().unwrap();
        report.assert_flawless();
        report
    };
    // Half a second, and what a busy machine takes besides: each question to an agent starts a program.
    let patience = Duration::from_secs(3);
    let cut = |cluster: &Cluster, patience: Duration| {
        cluster.set_wire("node3", 0, false).unwrap();
        let through = load();
        let took = until(cluster, "silent");
        assert!(took < patience, "{took:?}");
        flawless(through);
        // A first packet that is lost is sent again a second later.
        let slowest = flawless(load()).slowest;
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    };
    cut(&cluster, patience);
    cluster.set_wire("node3", 0, true).unwrap();
    until(&cluster, "ready");
    assert!(flawless(load()).of_task("web.3") > 0);

    cluster.kill_agent("node3").unwrap();
    until(&cluster, "away");
    cut(&cluster, Duration::from_millis(1500) + patience);
    cluster.set_wire("node3", 0, true).unwrap();
    until(&cluster, "away");
}

/// The others suspect it and send new connections to its tasks elsewhere; what it had is lost with it.
#[test]
fn new_connections_avoid_a_node_that_died() {
    let Some(mut cluster) = testing::web("died", 3).stage() else {
        return;
    };
    cluster.kill_node("node3").unwrap();
    let silent = |node: &str| {
        cluster
            .node_states(node)
            .is_ok_and(|states| states["node3"] == "silent")
    };
    netns::wait::until("node3 is suspected", Duration::from_secs(10), || {
        silent("node1") && silent("node2")
    })
    .unwrap();
    let load = Plan::new_connections(&cluster.ports(8080), 200.0).start(&cluster.client());
    load.wait_for(300).unwrap();
    let report = load.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.of_task("web.3"), 0);
}
