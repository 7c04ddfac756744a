//! What is heard of containers.

use std::sync::Arc;
use std::time::Instant;

use engine::Container;
use lb_userspace::model::{Readiness, Writer};
use lb_userspace::source::docker::{self, Converter};
use lb_userspace::source::engine::{Health, Local, Run};
use lb_userspace::source::kept::Kept;

use super::rig::{PATIENCE, Rig, name, replicas};

fn find<'l>(local: &'l Local, name: &str) -> Option<&'l lb_userspace::source::engine::Container> {
    local
        .containers
        .values()
        .map(|container| &**container)
        .find(|container| &*container.name == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_among_a_thousand_containers_costs_one_question() {
    let rig = Rig::with(replicas(1000)).await;
    let before = rig.until(|local| local.containers.len() == 1000).await;
    let mut converter = Converter::new("node1".into(), None);
    let address = Some([192, 0, 2, 11].into());
    let (first, _) = converter.convert(&before, address);
    assert_eq!(first.services["shop_web"].backends.len(), 1000);
    let asked = rig.simulated.asked("/containers/");
    let mut changed = rig.simulated.container(&name(500)).unwrap();
    changed.health = Some("unhealthy".into());
    changed.probe = "HTTP 503\n".into();
    let start = Instant::now();
    rig.simulated.change(changed, "health_status: unhealthy");
    let is_ill = |local: &Local| {
        find(local, &name(500))
            .is_some_and(|container| container.health == Some(Health::Unhealthy("HTTP 503".into())))
    };
    let after = rig.until(is_ill).await;
    let heard = start.elapsed();
    let (second, notes) = converter.convert(&after, address);
    println!("heard after {heard:?}, wanted after {:?}", start.elapsed());
    assert_eq!(notes, []);
    assert_eq!(rig.simulated.asked("/containers/") - asked, 1);
    let shared = before
        .containers
        .iter()
        .filter(|(id, container)| Arc::ptr_eq(container, &after.containers[*id]));
    assert_eq!(shared.count(), 999);
    let ill = second.services["shop_web"]
        .backends
        .iter()
        .filter(|backend| backend.readiness != Readiness::Ready);
    assert_eq!(ill.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_in_the_life_of_a_container_is_heard() {
    let rig = Rig::with(replicas(2)).await;
    let mut one = rig.simulated.container(&name(1)).unwrap();
    one.state = "paused".into();
    rig.simulated.change(one.clone(), "pause");
    rig.until(|local| find(local, &name(1)).is_some_and(|one| one.run == Run::Paused))
        .await;
    one.state = "running".into();
    rig.simulated.change(one.clone(), "unpause");
    rig.until(|local| find(local, &name(1)).is_some_and(|one| one.run == Run::Running))
        .await;
    one.name = "renamed".into();
    rig.simulated.change(one.clone(), "rename");
    rig.until(|local| find(local, "renamed").is_some()).await;
    one.networks = [("other".into(), [172, 19, 0, 7].into())].into();
    rig.simulated.change(one.clone(), "update");
    rig.until(|local| find(local, "renamed").is_some_and(|one| one.networks.contains_key("other")))
        .await;
    rig.simulated.signal(&one, 1);
    rig.simulated.signal(&one, 15);
    rig.until(|local| find(local, "renamed").is_some_and(|one| one.stopping))
        .await;
    one.state = "exited".into();
    rig.simulated.change(one.clone(), "die");
    rig.until(|local| find(local, "renamed").is_some_and(|one| one.run == Run::Ended && !one.stopping))
        .await;
    rig.simulated.remove(&one.id);
    rig.until(|local| local.containers.len() == 1).await;
    rig.simulated.change(replicas(3).last().unwrap(), "start");
    rig.until(|local| find(local, &name(3)).is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_swarm_count_up() {
    let rig = Rig::with(replicas(1)).await;
    let mut moved = rig.engine.moved();
    let before = *moved.borrow_and_update();
    rig.simulated.tell_of("service", "update", "web");
    tokio::time::timeout(PATIENCE, moved.wait_for(|count| *count > before))
        .await
        .unwrap()
        .unwrap();
    let before = *moved.borrow_and_update();
    let task = Container::plain("web.1.x").label("com.docker.swarm.task.id", "x");
    rig.simulated.change(task, "start");
    tokio::time::timeout(PATIENCE, moved.wait_for(|count| *count > before))
        .await
        .unwrap()
        .unwrap();
    assert!(rig.engine.client().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_reach_the_snapshot_and_are_kept_for_the_next_agent() {
    let rig = Rig::with(replicas(3)).await;
    let directory = tempfile::tempdir().unwrap();
    let setup = |engine: &lb_userspace::source::engine::Engine, writer: &Writer| docker::Setup {
        engine: engine.clone(),
        node: "node1".into(),
        address: Some([192, 0, 2, 11].into()),
        interfaces: Default::default(),
        writer: writer.clone(),
        kept: Kept::new(directory.path(), docker::NAME),
    };
    let identity = || lb_userspace::model::Identity::new([7; 32]);
    let sources = || [Arc::from(docker::NAME)];
    let (writer, writing) = Writer::start(identity(), sources(), lb_userspace::model::Past::default());
    let (report, following) = docker::start(setup(&rig.engine, &writer));
    let mut view = writer.view();
    let snapshot = tokio::time::timeout(PATIENCE, view.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(snapshot.services["shop_web"].backends.len(), 3);
    assert_eq!(
        (
            report.borrow().services,
            report.borrow().backends,
            report.borrow().error.clone()
        ),
        (1, 3, None)
    );
    let start = Instant::now();
    rig.simulated
        .remove(&rig.simulated.container(&name(2)).unwrap().id);
    let snapshot = tokio::time::timeout(PATIENCE, view.changed())
        .await
        .unwrap()
        .unwrap();
    println!("in the snapshot after {:?}", start.elapsed());
    assert_eq!(snapshot.services["shop_web"].backends.len(), 2);
    following.abort();
    assert!(following.await.is_err());
    writing.abort();

    // An agent that starts while the engine is away serves what the one before it did.
    let (absent, waiting) =
        lb_userspace::source::engine::Engine::start(directory.path().join("nothing.sock"));
    let (writer, writing) = Writer::start(identity(), sources(), lb_userspace::model::Past::default());
    let (report, following) = docker::start(setup(&absent, &writer));
    let snapshot = tokio::time::timeout(PATIENCE, writer.view().changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(snapshot.services["shop_web"].backends.len(), 2);
    let mut report = report;
    let told = tokio::time::timeout(PATIENCE, report.wait_for(|report| report.error.is_some()))
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert!(told.error.unwrap().contains("there is no such socket"));
    for task in [waiting, writing, following] {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_never_comes_holds_nobody_back() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, waiting) =
        lb_userspace::source::engine::Engine::start(directory.path().join("nothing.sock"));
    let identity = lb_userspace::model::Identity::new([7; 32]);
    let (writer, writing) = Writer::start(
        identity,
        [Arc::from(docker::NAME)],
        lb_userspace::model::Past::default(),
    );
    let (_report, following) = docker::start(docker::Setup {
        engine,
        node: "node1".into(),
        address: None,
        interfaces: Default::default(),
        writer: writer.clone(),
        kept: Kept::new(directory.path(), docker::NAME),
    });
    let snapshot = tokio::time::timeout(PATIENCE, writer.view().changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((snapshot.generation, snapshot.services.len()), (1, 0));
    for task in [waiting, writing, following] {
        task.abort();
    }
}
