//! Names inside the cluster: what a task finds, for whom, and how soon a change is seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns::builder::Builder;
use netns::client::load::Plan;
use netns::client::udp::Sender;
use netns::client::{http, udp};
use netns::{Cluster, Service, names, testing, tool, wait};

use crate::support::question::Question;

/// Far more than any change takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One task of `web`, which asks, and `api`, which is there only inside.
fn inside(name: &str, tasks: u32) -> Builder {
    let api = Service::default().with(r#"expose: ["http=80", "80/udp"]"#);
    testing::web(name, 1).service("api", api, tasks)
}

/// What the C library of a place makes of a name.
fn found(cluster: &Cluster, place: &str, name: &str) -> Vec<IpAddr> {
    cluster.resolve(place, name).unwrap()
}

/// The VIPs of `api`, with its port.
fn vips(cluster: &Cluster) -> Vec<SocketAddr> {
    let vips = found(cluster, "web.1", "api").into_iter();
    vips.map(|address| (address, 80).into()).collect()
}

#[test]
fn requests_by_name_reach_all_tasks_on_all_nodes() {
    let Some(cluster) = inside("byname", 4).stage() else {
        return;
    };
    let text = tool::run(cluster.command("web.1", "getent").unwrap().args(["hosts", "api"])).unwrap();
    assert!(text.trim_end().ends_with("api"), "{text}");
    let place = cluster.place("web.1");
    let mut answers: BTreeMap<(&str, bool), BTreeMap<String, u32>> = BTreeMap::new();
    for _ in 0..60 {
        let addresses = found(&cluster, "web.1", "api");
        assert_eq!(addresses.len(), 2, "a VIP of each family: {addresses:?}");
        for address in addresses {
            let target = (address, 80).into();
            let answer = http::ask(&place, target).unwrap();
            assert_eq!(answer.service, "api");
            let (task, _) = udp::ask(&place, target).unwrap();
            for (protocol, task) in [("TCP", answer.task), ("UDP", task)] {
                let counts = answers.entry((protocol, address.is_ipv4())).or_default();
                *counts.entry(task).or_default() += 1;
            }
        }
    }
    // With four tasks, 60 connections all miss one of them once in ten million runs.
    assert_eq!(answers.len(), 4);
    for (way, counts) in answers {
        assert_eq!(counts.len(), 4, "{way:?}: {counts:?}");
    }
}

#[test]
fn a_name_that_is_not_the_meshs_is_found_outside() {
    let Some(cluster) = inside("outside", 1).stage() else {
        return;
    };
    let outside = format!("www.{}", names::OUTSIDE);
    for place in ["web.1", "node1"] {
        let mut addresses = found(&cluster, place, &outside);
        addresses.sort();
        assert_eq!(addresses, netns::address::CLIENT.both(), "at {place}");
        assert_eq!(found(&cluster, place, "nobody"), [] as [IpAddr; 0], "at {place}");
    }
}

#[test]
fn scaling_is_seen_in_names_and_connections_at_once() {
    let Some(mut cluster) = inside("seen", 2).stage() else {
        return;
    };
    let vip = vips(&cluster)[0];
    let place = cluster.place("web.1");
    let node = cluster.task("web.1").unwrap().node.clone();

    let new = cluster.add_task("api", None).unwrap();
    let late = seen_after(&cluster, &node, &new, true);
    println!("a new task was in the answers {late:?} after the agent called it active");
    // 100 ms is what is promised; asserted is what a machine under load keeps too.
    assert!(late < Duration::from_secs(1), "{late:?}");
    let mut asked = 0;
    while http::ask(&place, vip).unwrap().task != new {
        asked += 1;
        assert!(asked < 100, "no new connection reaches {new}");
    }

    cluster.settle().unwrap();
    cluster
        .state
        .tasks
        .entry(new.clone())
        .and_modify(|task| task.draining = true);
    let late = seen_after(&cluster, &node, &new, false);
    println!("a draining task had left the answers {late:?} after the agent called it draining");
    assert!(late < Duration::from_secs(1), "{late:?}");
    // Other nodes have read their files by then, or do so now.
    cluster.settle().unwrap();
    for _ in 0..60 {
        assert_ne!(http::ask(&place, vip).unwrap().task, new);
    }
}

/// Publishes, and gives the time from the last moment at which the agent of `node` did not yet call the task active (or
/// still did) until it was among the tasks of `api` that the name server gives (or not): no more passed between the
/// snapshot and the answer.
fn seen_after(cluster: &Cluster, node: &str, task: &str, there: bool) -> Duration {
    // Two tasks on two nodes have one address; the third, beside web.1, is the only one with another.
    let (question, wanted) = (Question::of("tasks.api"), if there { 2 } else { 1 });
    let stop = AtomicBool::new(false);
    let asker = cluster.place("web.1");
    std::thread::scope(|scope| {
        let name = scope.spawn(|| {
            let asking = asker.run(|| {
                let end = Instant::now() + PATIENCE;
                while Instant::now() < end {
                    if question.ask() == Some(wanted) {
                        return Some(Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                None
            });
            stop.store(true, Ordering::Relaxed);
            asking.unwrap().expect("the answers follow")
        });
        cluster.publish().unwrap();
        let mut before = Instant::now();
        loop {
            let now = Instant::now();
            let states = cluster.backend_states(node).unwrap();
            let active = states.get(task).is_some_and(|state| state == "active");
            if active == there || stop.load(Ordering::Relaxed) {
                break;
            }
            before = now;
        }
        name.join().unwrap().saturating_duration_since(before)
    })
}

#[test]
fn a_sick_task_leaves_the_answers_and_comes_back() {
    let api = Service::default()
        .with("expose: [80]")
        .with("health: { http: /healthz, interval: 100ms }");
    let Some(cluster) = testing::web("sick", 1).service("api", api, 2).stage() else {
        return;
    };
    let has = |name: &str, there: bool| {
        wait::until(&format!("{name} is {there}"), PATIENCE, || {
            found(&cluster, "web.1", name).is_empty() != there
        })
        .unwrap()
    };
    has("api.1", true);
    std::fs::write(cluster.health_file("api.1"), "").unwrap();
    has("api.1", false);
    has("api.2", true);
    std::fs::remove_file(cluster.health_file("api.1")).unwrap();
    has("api.1", true);
}

#[test]
fn a_name_is_answered_on_the_networks_that_have_it() {
    let service = |networks: &str| Service::default().with("expose: [80]").with(networks);
    let Some(cluster) = testing::cluster("visible")
        .service("web", service("networks: [front]"), 2)
        .service("db", service("networks: [back]"), 2)
        .service("api", service("networks: [front, back]"), 2)
        .stage()
    else {
        return;
    };
    let all = ["web", "db", "api"];
    for (place, seen) in [
        ("web.1", ["web", "api"].as_slice()),
        ("web.2", &["web", "api"]),
        ("db.1", &["db", "api"]),
        ("db.2", &["db", "api"]),
        ("api.1", &all),
        ("node1", &all),
        ("node3", &all),
    ] {
        for name in all {
            let there = !found(&cluster, place, name).is_empty();
            assert_eq!(there, seen.contains(&name), "{name} from {place}");
        }
    }
}

#[test]
fn names_come_back_with_the_agent_and_connections_by_vip_go_on_meanwhile() {
    let Some(mut cluster) = inside("back", 3).stage() else {
        return;
    };
    let vips = vips(&cluster);
    let (place, node) = (
        cluster.place("web.1"),
        cluster.task("web.1").unwrap().node.clone(),
    );
    let loads =
        [Plan::keep_alive(&vips, 50.0), Plan::new_connections(&vips, 50.0)].map(|plan| plan.start(&place));
    let sender = Sender::start(&place, vips[0], 50.0);
    let more = || {
        for load in &loads {
            load.wait_for(50).unwrap();
        }
        sender.wait_for(50).unwrap();
    };
    more();
    cluster.kill_agent(&node).unwrap();
    assert!(Question::of("api").ask_from(&place).is_none(), "nobody answers");
    more();
    cluster.start_agent(&node).unwrap();
    let back = Instant::now();
    wait::until("names are back", PATIENCE, || {
        Question::of("api").ask_from(&place) == Some(1)
    })
    .unwrap();
    println!("names were back {:?} after the agent's start", back.elapsed());
    assert_eq!(vips, self::vips(&cluster), "VIPs are the same as before");
    more();
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
    assert_eq!(sender.stop().unwrap().lost(), 0);
}
