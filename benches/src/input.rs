//! The cluster that the control side is measured with: many services of some backends each, on a hundred nodes.

use std::fmt::Write;

use lb_userspace::config::Vip;
use lb_userspace::model::{Agreed, Identity};

pub const SERVICES: u32 = 10_000;
pub const BACKENDS: u32 = 10;
pub const NODES: u32 = 100;
/// The node whose agent is looked at; a tenth of the services have a backend here.
pub const HERE: &str = "node9";
/// A service of which a backend runs here, and that backend.
pub const SERVICE: &str = "s7";
pub const TASK: &str = "t1";

/// What its agents agree on: everything that is the default.
pub fn agreed() -> Agreed {
    Agreed {
        identity: identity(),
        pools: Vip::default().pool,
    }
}

pub fn identity() -> Identity {
    Identity::new([0; 32])
}

/// The services file of that cluster, each service with head tables of `slots`.
pub fn services_file(slots: u32) -> String {
    let mut text = String::from("nodes:\n");
    for node in 1..=NODES {
        let _ = writeln!(text, "  node{node}: 192.0.2.{node}");
    }
    text.push_str("services:\n");
    for service in 0..SERVICES {
        let port = 10_000 + service;
        let _ = writeln!(
            text,
            "  s{service}:\n    ports: [\"{port}:80/tcp\"]\n    slots: {slots}"
        );
        text.push_str("    health: { tcp: true }\n    backends:\n");
        for backend in 1..=BACKENDS {
            let node = (service + backend) % NODES + 1;
            let _ = writeln!(
                text,
                "      - {{ node: node{node}, address: 172.18.0.{backend}, task: t{backend} }}"
            );
        }
    }
    text
}
