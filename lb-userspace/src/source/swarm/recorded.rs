//! What a real swarm of three nodes answered (`tests/engine/recorded/swarm`), and small swarms of our own.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::lists::{self, Lists, Nanoseconds, State};

/// One moment of it: `t0`, `scaled6`, `rolled`, `drained-n2`, `n3-down`, `v28`.
pub fn lists(moment: &str) -> Lists {
    let networks = if moment == "v28" { moment } else { "t0" };
    Lists {
        nodes: read(&format!("{moment}.nodes")),
        networks: read(&format!("{networks}.networks")),
        services: read(&format!("{moment}.services")),
        tasks: read(&format!("{moment}.tasks")),
    }
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(format!("../tests/engine/recorded/swarm/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A node that has joined `second` seconds after 1970.
pub fn node(id: &str, host: &str, address: &str, second: u64) -> lists::Node {
    lists::Node {
        id: id.to_owned(),
        created_at: at(second),
        updated_at: at(second),
        spec: lists::NodeSpec {
            availability: "active".to_owned(),
            ..Default::default()
        },
        description: lists::Description {
            hostname: host.to_owned(),
        },
        status: lists::NodeStatus {
            state: "ready".to_owned(),
            addr: address.to_owned(),
        },
        manager_status: None,
    }
}

/// A replicated service of one task, on the network `app`.
pub fn service(name: &str, second: u64) -> lists::Service {
    let replicated = lists::Replicated { replicas: Some(1) };
    lists::Service {
        id: format!("{name}-id"),
        created_at: at(second),
        spec: lists::ServiceSpec {
            name: name.to_owned(),
            task_template: lists::TaskSpec {
                networks: vec![lists::Target {
                    target: "app-id".to_owned(),
                    aliases: Vec::new(),
                }],
                ..Default::default()
            },
            mode: lists::Mode {
                replicated: Some(replicated),
                ..Default::default()
            },
            ..Default::default()
        },
        ..Default::default()
    }
}

/// A running one in the first slot of a service of the above.
pub fn task(id: &str, service: &str, node: &str, second: u64) -> lists::Task {
    lists::Task {
        id: id.to_owned(),
        created_at: at(second),
        updated_at: at(second + 1),
        service: format!("{service}-id"),
        slot: 1,
        node: node.to_owned(),
        status: lists::TaskStatus {
            state: State::Running,
        },
        desired_state: State::Running,
        networks_attachments: vec![attached("app", "10.0.1.7/24")],
    }
}

pub fn attached(network: &str, address: &str) -> lists::Attached {
    lists::Attached {
        network: lists::AttachedNetwork {
            id: format!("{network}-id"),
            spec: lists::AttachedSpec {
                name: network.to_owned(),
                ..Default::default()
            },
        },
        addresses: vec![address.to_owned()],
    }
}

/// Published by the mesh.
pub fn port(port: u16, target_port: u16, protocol: &str) -> lists::Port {
    lists::Port {
        protocol: protocol.to_owned(),
        target_port,
        published_port: port,
        publish_mode: "ingress".to_owned(),
    }
}

/// Two nodes and one service of one task, on the first.
pub fn small() -> Lists {
    Lists {
        nodes: vec![
            node("n1-id-and-more", "n1", "192.0.2.11", 1),
            node("n2-id-and-more", "n2", "192.0.2.12", 2),
        ],
        networks: vec![lists::Network {
            id: "app-id".to_owned(),
            name: "app".to_owned(),
            ..Default::default()
        }],
        services: vec![service("web", 10)],
        tasks: vec![task("t1", "web", "n1-id-and-more", 11)],
    }
}

pub const fn at(second: u64) -> Nanoseconds {
    Nanoseconds(second * 1_000_000_000)
}
