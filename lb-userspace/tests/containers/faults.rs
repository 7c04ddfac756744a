//! What an engine can do wrong: one message each, and the last picture stays.

use std::time::{Duration, Instant};

use engine::Fault;
use lb_userspace::source::engine::{Health, Local, Problem};
use rstest::rstest;
use serde_json::json;

use super::rig::{Rig, name, replicas};

fn text(problem: Option<Problem>) -> String {
    problem.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_engine_is_away_is_seen_when_it_is_back() {
    let mut rig = Rig::with(replicas(3)).await;
    rig.simulated.vanish();
    let told = text(rig.problem(|problem| problem.is_some()).await);
    assert!(
        told.contains("\n  traffic: flows as the engine last said"),
        "{told}"
    );
    assert_eq!(rig.engine.local().borrow().as_ref().unwrap().containers.len(), 3);
    let mut two = rig.simulated.container(&name(2)).unwrap();
    two.state = "exited".into();
    two.health = None;
    rig.simulated.put([two]);
    rig.simulated
        .remove(&rig.simulated.container(&name(3)).unwrap().id);
    rig.simulated.put(replicas(5).skip(3));
    rig.simulated.come_back().unwrap();
    rig.until(|local| {
        let ended = |container: &lb_userspace::source::engine::Container| {
            container.run == lb_userspace::source::engine::Run::Ended
        };
        local.containers.len() == 4
            && local
                .containers
                .values()
                .filter(|container| ended(container))
                .count()
                == 1
    })
    .await;
    assert_eq!(rig.problem(|problem| problem.is_none()).await, None);
}

#[rstest]
#[case(json!({ "ApiVersion": "1.40", "MinAPIVersion": "1.12" }), "it speaks API 1.40; this agent needs at least 1.41")]
#[case(json!({ "ApiVersion": "1.99", "MinAPIVersion": "1.90" }), "it wants API 1.90 or later; this agent speaks 1.53")]
#[case(json!({ "Components": 7 }), "its answer to GET /version cannot be understood")]
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_another_time_is_named(#[case] version: serde_json::Value, #[case] reason: &str) {
    let rig = Rig::prepared(|simulated| simulated.answer("/version", version)).await;
    let told = text(rig.problem(|problem| problem.is_some()).await);
    assert!(told.contains(reason) && told.contains(&rig.socket()), "{told}");
    assert!(told.contains("\n  fix: "), "{told}");
    assert!(rig.engine.local().borrow().is_none());
}

#[rstest]
#[case(Fault::Refuse(403, "forbidden".into()), "permission denied")]
#[case(Fault::Refuse(500, "disk full".into()), "it refused GET /containers/json: 500: disk full")]
#[case(Fault::Nonsense("<html>".into()), "its answer to GET /containers/json cannot be understood")]
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_at_something_is_quoted_and_asked_again(
    #[case] fault: Fault,
    #[case] reason: &str,
) {
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(2));
        simulated.fail("/containers/json", Some(fault));
    })
    .await;
    let told = text(rig.problem(|problem| problem.is_some()).await);
    assert!(told.contains(reason), "{told}");
    rig.simulated.fail("/containers/json", None);
    rig.until(|local| local.containers.len() == 2).await;
    rig.problem(|problem| problem.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_inspected_hides_no_other() {
    let id = replicas(1).last().unwrap().id;
    let path = format!("/containers/{id}");
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(3));
        simulated.fail(&path, Some(Fault::Refuse(500, "no".into())));
    })
    .await;
    rig.until(|local| local.containers.len() == 2).await;
    rig.simulated.fail(&path, None);
    rig.until(|local| local.containers.len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_never_answered_for_hides_no_other() {
    let rig = Rig::with(replicas(3)).await;
    let id = rig.simulated.container(&name(1)).unwrap().id;
    rig.simulated
        .fail(&format!("/containers/{id}"), Some(Fault::Hang));
    let ill = |number| {
        let mut ill = rig.simulated.container(&name(number)).unwrap();
        ill.health = Some("unhealthy".into());
        rig.simulated.change(ill, "health_status: unhealthy");
    };
    ill(1);
    ill(2);
    let start = Instant::now();
    rig.until(|local| {
        let mut containers = local.containers.values();
        containers.any(|container| {
            *container.name == *name(2) && matches!(container.health, Some(Health::Unhealthy(_)))
        })
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "after {:?}",
        start.elapsed()
    );
    // And it is told who is meant, while all goes on.
    let local = rig.until(|local| !local.notes.is_empty()).await;
    assert!(local.notes[0].what.contains("no answer within"), "{local:?}");
    assert_eq!(rig.engine.problem().borrow().clone(), None);
    rig.simulated.fail(&format!("/containers/{id}"), None);
    rig.until(|local| local.notes.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_inspected_is_asked_for_ever_more_seldom() {
    let id = replicas(1).last().unwrap().id;
    let path = format!("/containers/{id}");
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(2));
        simulated.fail(&path, Some(Fault::Refuse(500, "no".into())));
    })
    .await;
    rig.until(|local| local.containers.len() == 1 && local.notes.len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // At 0, 0.2, 0.6, 1.4 and 3 s.
    assert!(rig.simulated.asked(&path) <= 5, "{}", rig.simulated.asked(&path));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_events_is_not_asked_all_the_time() {
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(1));
        simulated.fail("/events", Some(Fault::Refuse(500, "no".into())));
    })
    .await;
    rig.until(|local| local.containers.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        rig.simulated.asked("/version") <= 7,
        "{}",
        rig.simulated.asked("/version")
    );
    assert!(rig.engine.problem().borrow().is_some());
}

fn of_swarm(info: serde_json::Value) -> serde_json::Value {
    json!({ "DockerRootDir": "/var/lib/docker", "Swarm": info })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_in_its_swarm_until_it_says_twice_that_it_is_not() {
    let member = of_swarm(json!({ "NodeID": "n1", "NodeAddr": "192.0.2.11", "LocalNodeState": "active" }));
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(1));
        simulated.answer("/info", member.clone());
    })
    .await;
    let node = |local: &Local| local.swarm.as_ref().map(|swarm| swarm.node.to_string());
    rig.until(|local| node(local).as_deref() == Some("n1")).await;
    rig.is_heard().await;
    let steps = [
        (
            of_swarm(json!({ "NodeID": "", "LocalNodeState": "locked" })),
            "locked",
        ),
        (
            of_swarm(json!({ "LocalNodeState": "unheard of" })),
            "cannot be understood",
        ),
    ];
    for (info, told) in steps {
        rig.simulated.answer("/info", info);
        rig.simulated.tell_of("node", "update", "n1");
        let local = rig
            .until(|local| local.notes.iter().any(|note| note.what.contains(told)))
            .await;
        assert_eq!(node(&local).as_deref(), Some("n1"));
    }
    let asked = rig.simulated.asked("/info");
    rig.simulated
        .answer("/info", of_swarm(json!({ "LocalNodeState": "inactive" })));
    rig.simulated.tell_of("node", "update", "n1");
    let local = rig.until(|local| local.swarm.is_none()).await;
    assert!(!local.unclear && rig.simulated.asked("/info") >= asked + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_followed_while_the_engine_waits_for_its_leader() {
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(1));
        simulated.fail("/info", Some(Fault::Hang));
    })
    .await;
    let local = rig.until(|local| local.containers.len() == 1).await;
    assert!(local.unclear);
    let start = Instant::now();
    rig.simulated.change(replicas(2).last().unwrap(), "start");
    rig.until(|local| local.containers.len() == 2).await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "after {:?}",
        start.elapsed()
    );
    let local = rig.until(|local| !local.notes.is_empty()).await;
    assert!(
        local.notes[0].what.contains("no answer within 10 s to GET /info"),
        "{local:?}"
    );
    assert_eq!(rig.engine.problem().borrow().clone(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_says_nothing_of_a_swarm_is_followed_all_the_same() {
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(1));
        simulated.answer("/info", json!({ "Swarm": { "LocalNodeState": "unheard of" } }));
    })
    .await;
    let local = rig.until(|local| local.containers.len() == 1).await;
    assert_eq!((&local.swarm, local.unclear), (&None, true));
}
