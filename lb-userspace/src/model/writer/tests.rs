use super::super::Identity;
use super::super::testing::{backend, web};
use super::super::{Desired, Standing};
use super::*;

fn start() -> Writer {
    Writer::start(Identity::new([0; 32]), ["file".into()], Drains::default()).0
}

fn web_one() -> Arc<Desired> {
    Arc::new(web(vec![backend("web.1", "node1")]))
}

#[tokio::test(start_paused = true)]
async fn a_source_becomes_a_snapshot() {
    let writer = start();
    let mut view = writer.view();
    assert_eq!(view.current().generation, 0);
    writer.source("file".into(), web_one()).await.unwrap();
    let snapshot = view.changed().await.unwrap();
    assert_eq!(snapshot.generation, 1);
    assert_eq!(snapshot.services.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_warm_backend_becomes_active_without_another_event() {
    let writer = start();
    let mut view = writer.view();
    writer.source("file".into(), web_one()).await.unwrap();
    view.changed().await.unwrap();
    let two = web(vec![backend("web.1", "node1"), backend("web.2", "node2")]);
    writer.source("file".into(), Arc::new(two)).await.unwrap();
    let learned = Instant::now();
    assert_eq!(
        view.changed().await.unwrap().services["web"].backends[1].standing,
        Standing::Warming
    );
    assert_eq!(
        view.changed().await.unwrap().services["web"].backends[1].standing,
        Standing::Active
    );
    let waited = learned.elapsed();
    assert!((500..510).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_command_is_answered_with_the_mark_and_shown_to_peers() {
    let writer = start();
    let mut drains = writer.drains();
    writer.source("file".into(), web_one()).await.unwrap();
    let mark = writer
        .drain(DrainObject::Node("node1".into()), true)
        .await
        .unwrap();
    drains.changed().await.unwrap();
    assert!(drains.borrow().iter().eq([mark]));
    let snapshot = writer.view().changed().await.unwrap();
    assert_eq!(snapshot.services["web"].backends[0].standing, Standing::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_no_agent_has_room_for_is_refused_in_words() {
    use super::super::marks::MAX_DRAINS;
    let writer = start();
    writer.source("file".into(), web_one()).await.unwrap();
    for number in 0..MAX_DRAINS {
        let node = DrainObject::Node(number.to_string().into());
        writer.drain(node, true).await.unwrap();
    }
    let one_more = writer.drain(DrainObject::Node("node1".into()), true).await;
    assert_eq!(one_more, Err(DrainError::Refused(Refusal::Full)));
    // What is marked can be unmarked.
    writer.drain(DrainObject::Node("7".into()), false).await.unwrap();
}
