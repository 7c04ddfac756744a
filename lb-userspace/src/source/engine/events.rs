//! Which of the engine's events say that something is to be looked at, and what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum as Kind};
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};

use super::local::TASK;

/// What an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This container changed.
    Container { id: Arc<str>, task: bool },
    /// This container has been sent a signal.
    Signal {
        id: Arc<str>,
        signal: String,
        task: bool,
    },
    /// This container is gone.
    Gone { id: Arc<str>, task: bool },
    /// Services, nodes or networks changed, and perhaps what the engine is to its swarm.
    Cluster,
    /// Nothing of interest.
    Other,
}

const ACTIONS: [&str; 15] = [
    "create",
    "start",
    "die",
    "destroy",
    "pause",
    "unpause",
    "rename",
    "update",
    "kill",
    "stop",
    "restart",
    "remove",
    "health_status",
    "connect",
    "disconnect",
];

/// All that matters since `since`, which covers the time until the engine hears of us. Podman does not know all of these
/// filters: what it sends beyond them is left out here.
pub fn options(podman: bool, since: SystemTime) -> EventsOptions {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut filters = HashMap::new();
    if podman {
        filters.insert("type", vec!["container", "network"]);
    } else {
        filters.insert("type", vec!["container", "network", "service", "node"]);
        filters.insert("event", ACTIONS.to_vec());
    }
    let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
    EventsOptionsBuilder::default()
        .since(&since)
        .filters(&filters)
        .build()
}

/// What it asks for.
pub fn read(event: EventMessage) -> Event {
    let action = event.action.unwrap_or_default();
    let action = action.split(':').next().unwrap_or_default();
    let actor = event.actor.unwrap_or_default();
    let mut attributes = actor.attributes.unwrap_or_default();
    let id = actor.id.filter(|id| !id.is_empty());
    match (event.typ, id) {
        (Some(Kind::CONTAINER), Some(id)) => {
            let task = attributes.contains_key(TASK);
            of_container(action, id.into(), task, attributes)
        }
        (Some(Kind::NETWORK), _) => match (action, attributes.remove("container")) {
            ("connect" | "disconnect", Some(id)) => Event::Container {
                id: id.into(),
                task: false,
            },
            ("create" | "destroy" | "remove" | "update", _) => Event::Cluster,
            _ => Event::Other,
        },
        (Some(Kind::SERVICE | Kind::NODE), _) => Event::Cluster,
        _ => Event::Other,
    }
}

fn of_container(action: &str, id: Arc<str>, task: bool, mut attributes: HashMap<String, String>) -> Event {
    match action {
        "destroy" | "remove" => Event::Gone { id, task },
        "kill" => match attributes.remove("signal") {
            Some(signal) => Event::Signal { id, signal, task },
            None => Event::Container { id, task },
        },
        "create" | "start" | "die" | "died" | "pause" | "unpause" | "rename" | "update" | "stop"
        | "restart" | "health_status" | "init" | "cleanup" => Event::Container { id, task },
        _ => Event::Other,
    }
}
