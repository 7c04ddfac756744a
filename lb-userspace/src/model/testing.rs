//! Small clusters for tests, and generators of them.

mod rich;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::desired::DEFAULT_SLOTS;
use super::{
    Affinity, Desired, DesiredBackend, DesiredNode, DesiredService, Frontend, HealthCheck, Naming, Probe,
    Protocol, ProxyRules, Readiness, Stamps,
};

pub use rich::any_rich_desired;

pub fn node(last: u8) -> DesiredNode {
    DesiredNode {
        address: Ipv4Addr::new(192, 0, 2, last),
        draining: false,
    }
}

pub fn backend(task: &str, node: &str) -> DesiredBackend {
    DesiredBackend {
        task: task.into(),
        names: Vec::new(),
        node: node.into(),
        addresses: vec!["172.18.0.2".parse().unwrap()],
        attachments: Vec::new(),
        weight: 1,
        readiness: Readiness::Ready,
        stamps: Stamps::UNKNOWN,
    }
}

pub fn service(port: u16, backends: Vec<DesiredBackend>) -> DesiredService {
    let probe = Probe::Tcp;
    let second = std::time::Duration::from_secs(1);
    DesiredService {
        naming: Naming::default(),
        vips: Vec::new(),
        assigned: Vec::new(),
        exposed: Vec::new(),
        frontends: vec![Frontend {
            address: None,
            port,
            protocol: Protocol::Tcp,
            target_port: 80,
            inside: false,
            held: false,
        }],
        slots: DEFAULT_SLOTS,
        affinity: Affinity::None,
        health: Some(HealthCheck {
            probe,
            port: 80,
            interval: second,
            timeout: second,
            failures: 3,
            successes: 2,
        }),
        proxy: ProxyRules::default(),
        backends,
    }
}

/// Nodes node1 to node3 and the service "web" on port 8080.
pub fn web(backends: Vec<DesiredBackend>) -> Desired {
    Desired {
        nodes: (1..=3)
            .map(|n| (Arc::from(format!("node{n}")), node(n)))
            .collect(),
        services: [("web".into(), Arc::new(service(8080, backends)))].into(),
        order: Vec::new(),
        guests: BTreeMap::new(),
    }
}

/// Up to three nodes and four services, small enough that two of them have much in common.
pub fn any_desired() -> impl Strategy<Value = Desired> {
    let nodes = proptest::collection::btree_map(1u8..4, any::<bool>(), 0..4);
    let services = proptest::collection::btree_map("[abcd]", any_service(), 0..4);
    (nodes, services).prop_map(|(nodes, services)| {
        let nodes = nodes
            .into_iter()
            .map(|(n, draining)| (Arc::from(format!("node{n}")), DesiredNode { draining, ..node(n) }));
        let services = services
            .into_iter()
            .map(|(name, service)| (name.as_str().into(), Arc::new(service)));
        Desired {
            nodes: nodes.collect(),
            services: services.collect(),
            order: Vec::new(),
            guests: BTreeMap::new(),
        }
    })
}

fn any_service() -> impl Strategy<Value = DesiredService> {
    let backends = proptest::collection::btree_map(0u8..5, any_backend(), 0..4);
    let targets = proptest::collection::vec(80u16..82, 0..3);
    (backends, targets, any::<bool>()).prop_map(|(backends, targets, checked)| {
        let named = backends.into_iter().map(|(n, backend)| DesiredBackend {
            task: format!("task{n}").into(),
            ..backend
        });
        let mut service = service(8080, named.collect());
        let frontend = |(n, target_port)| Frontend {
            address: (n == 2).then(|| IpAddr::from([10, 254, 0, 1])),
            port: 8000 + n as u16,
            protocol: Protocol::Tcp,
            target_port,
            inside: false,
            held: false,
        };
        service.frontends = targets.into_iter().enumerate().map(frontend).collect();
        service.health = service.health.filter(|_| checked);
        service
    })
}

fn any_backend() -> impl Strategy<Value = DesiredBackend> {
    (1u8..5, 1u16..4, any::<bool>(), 0u8..4).prop_map(|(node, weight, draining, families)| {
        let addresses: [IpAddr; 2] = [[172, 18, 0, 2].into(), "2001:db8::2".parse().unwrap()];
        let addresses = match families {
            0 => vec![addresses[1]],
            1 => addresses.to_vec(),
            _ => vec![addresses[0]],
        };
        DesiredBackend {
            weight,
            readiness: if draining {
                Readiness::Draining
            } else {
                Readiness::Ready
            },
            addresses,
            ..backend("", &format!("node{node}"))
        }
    })
}

/// Tags of a set, for health marks.
pub fn tags(tags: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    tags.into_iter().collect()
}
