//! What tasks see of their clients.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::api::facts::Facts;
use crate::model::Service;

/// Where tasks see something else than the client's own address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Networks whose clients are seen as they are, wherever they are.
    pub flat: Vec<IpNet>,
    /// One for each node that has a task.
    pub masks: Vec<Mask>,
}

/// What the tasks of one node see of containers on other nodes, and of clients they could not answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mask {
    pub node: String,
    /// One for each family. Another node's IPv6 address is known to that node alone.
    pub addresses: Vec<IpAddr>,
}

pub fn seen(facts: &Facts, service: &Service) -> Seen {
    let report = facts.planes.iter().map(|plane| &plane.report);
    let own: Vec<IpAddr> = report.clone().flat_map(|report| report.masks.clone()).collect();
    let nodes = facts.snapshot.nodes.values();
    let masks = nodes
        .filter(|node| service.backends.iter().any(|backend| backend.node == node.name))
        .map(|node| Mask {
            node: node.name.to_string(),
            addresses: if node.name == facts.node && !own.is_empty() {
                own.clone()
            } else {
                vec![node.address.into()]
            },
        });
    Seen {
        flat: report.flat_map(|report| report.flat.clone()).collect(),
        masks: masks.collect(),
    }
}
