//! The client that the agent uses understands what the engine says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use bollard::{API_DEFAULT_VERSION, Docker};
use engine::{Container, Engine, Fault};
use futures_util::StreamExt;

fn client(socket: &Path) -> Docker {
    Docker::connect_with_unix(&socket.to_string_lossy(), 5, API_DEFAULT_VERSION).unwrap()
}

#[tokio::test]
async fn containers_are_listed_inspected_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(&directory.path().join("docker.sock")).unwrap();
    let docker = client(engine.socket());
    let mut events = docker.events(None);
    // The stream is open when its first event has come.
    let web = Container::of_compose("shop", "web", 1, [172, 18, 0, 2].into());
    let first = loop {
        engine.change(web.clone(), "start");
        let wait = tokio::time::timeout(std::time::Duration::from_millis(50), events.next());
        if let Ok(Some(event)) = wait.await {
            break event.unwrap();
        }
    };
    assert_eq!(first.action.as_deref(), Some("start"));
    let listed = docker.list_containers(None).await.unwrap();
    assert_eq!(listed[0].names.as_deref(), Some(&["/shop_web_1".to_owned()][..]));
    let inspected = docker.inspect_container(&web.id, None).await.unwrap();
    assert_eq!(inspected.name.as_deref(), Some("/shop_web_1"));
    assert_eq!(engine.asked("/containers/json"), 1);
    assert_eq!(
        docker.version().await.unwrap().api_version.as_deref(),
        Some("1.41")
    );

    engine.fail("/info", Some(Fault::Refuse(500, "no".into())));
    assert!(docker.info().await.is_err());
    engine.vanish();
    assert!(docker.version().await.is_err());
    engine.come_back().unwrap();
    assert!(docker.list_containers(None).await.unwrap().len() == 1);
}
