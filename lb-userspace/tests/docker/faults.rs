//! What an engine can do wrong: one message each, and the last picture stays.

use engine::Fault;
use lb_userspace::source::engine::Problem;
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
async fn an_engine_that_says_nothing_of_a_swarm_is_followed_all_the_same() {
    let rig = Rig::prepared(|simulated| {
        simulated.put(replicas(1));
        simulated.answer("/info", json!({ "Swarm": { "LocalNodeState": "unheard of" } }));
    })
    .await;
    let local = rig.until(|local| local.containers.len() == 1).await;
    assert_eq!(local.swarm, None);
}
