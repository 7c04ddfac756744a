//! Everything that engines were recorded to answer is understood by the types that it is read with: Docker 20.10 and 28.5.

use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EventMessage, NetworkInspect, SystemInfo, SystemVersion,
};
use serde::de::DeserializeOwned;

fn text(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("../tests/engine/recorded/engine").join(name)).unwrap()
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn lists_and_containers_of_both_versions_are_read() {
    for name in ["list.compose.json", "list.docker28.json", "list.swarm.json"] {
        assert!(!read::<Vec<ContainerSummary>>(name).is_empty());
    }
    let container: ContainerInspectResponse = read("inspect.compose.json");
    assert_eq!(container.name.as_deref(), Some("/demo_web_1"));
    let task: ContainerInspectResponse = read("inspect.swarm-task.json");
    assert!(
        task.config
            .unwrap()
            .labels
            .unwrap()
            .contains_key("com.docker.swarm.task.id")
    );
}

#[test]
fn what_engines_say_of_themselves_is_read() {
    for (name, manager) in [
        ("info.manager.json", true),
        ("info.worker.json", false),
        ("info.docker28.json", true),
    ] {
        assert_eq!(
            read::<SystemInfo>(name).swarm.unwrap().control_available,
            Some(manager)
        );
    }
    assert!(
        read::<SystemVersion>("version.docker28.json")
            .api_version
            .is_some()
    );
    let bridge: NetworkInspect = read("network.gwbridge.json");
    assert_eq!(bridge.containers.unwrap().len(), 5);
}

#[test]
fn every_kind_of_event_is_read() {
    let lines = text("events.ndjson");
    let events = lines.lines().map(|line| {
        serde_json::from_str::<EventMessage>(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    let actions: Vec<String> = events.filter_map(|event| event.action).collect();
    for action in [
        "start",
        "die",
        "kill",
        "pause",
        "health_status: healthy",
        "connect",
        "update",
    ] {
        assert!(actions.iter().any(|known| known == action), "{action}");
    }
}
