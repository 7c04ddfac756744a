//! From a service to the pools its frontends lead to.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::placement::{Candidate, State};

use super::{Backend, Family, Frontend, Identity, Member, Pool, Service, Stamps, Standing, is_served};

/// What a pool needs to know of a backend beside what the snapshot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placing {
    /// Tag of its node.
    pub node: u16,
    /// Highest weight so far.
    pub peak: u16,
    /// In the source's order.
    pub stamps: Stamps,
    /// In this agent's own.
    pub seen: Stamps,
}

/// One pool for each target port and family, sorted by both. `placing` goes with the service's backends, one for one.
///
/// A family has a pool where a backend has an address of it, and where the service has no backend at all: an empty pool
/// answers that there is nobody, while no pool leaves the packet to the host, where the proxy leads it to tasks of the other
/// family. Their pool is there for that even if no frontend is of their family.
pub fn pools(identity: &Identity, service: &Service, placing: &[Placing]) -> Vec<Pool> {
    // Ranges of ten thousand ports are real, and looked through once.
    let mut ports: BTreeMap<u16, Vec<Frontend>> = BTreeMap::new();
    for frontend in &service.frontends {
        ports.entry(frontend.target_port).or_default().push(*frontend);
    }
    let pairs = ports
        .iter()
        .flat_map(|(port, frontends)| Family::ALL.map(|family| (*port, frontends, family)));
    pairs
        .filter_map(|(port, frontends, family)| pool(identity, service, placing, (port, frontends), family))
        .collect()
}

fn pool(
    identity: &Identity,
    service: &Service,
    placing: &[Placing],
    (target_port, frontends): (u16, &[Frontend]),
    family: Family,
) -> Option<Pool> {
    let answer = frontends.iter().filter(|frontend| frontend.answers(family));
    let frontends: Vec<_> = answer.copied().collect();
    let mut members: Vec<Member> = service
        .backends
        .iter()
        .zip(placing)
        .filter_map(|(backend, placing)| member(identity, service, backend, placing, target_port, family))
        .collect();
    members.sort_by_key(|member| member.candidate.tag);
    let lends = || {
        Family::ALL
            .iter()
            .any(|family| !is_served(&service.backends, *family))
    };
    if (frontends.is_empty() && !lends()) || (members.is_empty() && !service.backends.is_empty()) {
        return None;
    }
    Some(Pool {
        id: identity.pool(&service.name, target_port, family),
        service: Arc::clone(&service.name),
        target_port,
        family,
        slots: service.slots,
        affinity: service.affinity,
        frontends,
        members,
    })
}

fn member(
    identity: &Identity,
    service: &Service,
    backend: &Backend,
    placing: &Placing,
    target_port: u16,
    family: Family,
) -> Option<Member> {
    let address = *backend
        .addresses
        .iter()
        .find(|address| Family::of(**address) == family)?;
    let state = match backend.standing {
        Standing::Warming => State::Warming,
        Standing::Active => State::Active,
        // An unhealthy backend keeps its connections, and is better than nobody.
        Standing::Draining | Standing::Unhealthy => State::Draining,
    };
    Some(Member {
        task: Arc::clone(&backend.task),
        node: Arc::clone(&backend.node),
        address,
        candidate: Candidate {
            tag: identity.member(&service.name, &backend.task, target_port, family),
            node: placing.node,
            weight: backend.weight,
            peak: placing.peak,
            state,
            first: placing.stamps.first,
            last: placing.stamps.last,
            seen_first: placing.seen.first,
            seen_last: placing.seen.last,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::{Affinity, Naming, Protocol};
    use super::*;

    const PLACING: Placing = Placing {
        node: 7,
        peak: 1,
        stamps: Stamps::UNKNOWN,
        seen: Stamps::UNKNOWN,
    };

    fn frontend(address: Option<&str>, port: u16, target_port: u16) -> Frontend {
        let address = address.map(|address| address.parse().unwrap());
        Frontend {
            address,
            port,
            protocol: Protocol::Tcp,
            target_port,
            inside: false,
            held: false,
        }
    }

    fn backend(task: &str, addresses: &[&str], standing: Standing) -> Backend {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Backend {
            tag: 1,
            task: task.into(),
            names: Vec::new(),
            node: "node1".into(),
            addresses,
            attachments: Vec::new(),
            weight: 1,
            standing,
            unready: None,
        }
    }

    fn made(frontends: Vec<Frontend>, backends: Vec<Backend>) -> Vec<Pool> {
        let placing = vec![PLACING; backends.len()];
        let (slots, affinity) = (4096, Affinity::None);
        let service = Service {
            name: "web".into(),
            naming: Naming::default(),
            vips: Vec::new(),
            missed_vips: Vec::new(),
            assigned: Vec::new(),
            exposed: Vec::new(),
            frontends,
            slots,
            affinity,
            wanted: None,
            health: None,
            proxy: Default::default(),
            backends,
        };
        pools(&Identity::new([0; 32]), &service, &placing)
    }

    #[test]
    fn each_target_port_and_family_has_its_pool() {
        let frontends = vec![
            frontend(None, 8080, 80),
            frontend(None, 8443, 443),
            frontend(None, 8081, 80),
        ];
        let pools = made(
            frontends,
            vec![backend("a", &["172.18.0.2", "2001:db8::2"], Standing::Active)],
        );
        let keys: Vec<_> = pools
            .iter()
            .map(|p| (p.target_port, p.family, p.frontends.len()))
            .collect();
        assert_eq!(
            keys,
            [
                (80, Family::V4, 2),
                (80, Family::V6, 2),
                (443, Family::V4, 1),
                (443, Family::V6, 1)
            ]
        );
    }

    #[test]
    fn a_frontend_has_no_pool_in_a_family_without_backends() {
        let web = || vec![backend("a", &["172.18.0.2"], Standing::Active)];
        assert_eq!(made(vec![frontend(None, 80, 80)], web()).len(), 1);
        // The proxy leads its clients to the tasks that there are.
        let vip = vec![frontend(Some("2001:db8:1::1"), 80, 80)];
        let pools = made(vip, web());
        assert_eq!(pools.len(), 1);
        assert_eq!(
            (pools[0].family, pools[0].members.len(), pools[0].frontends.len()),
            (Family::V4, 1, 0)
        );
    }

    #[test]
    fn a_service_without_backends_answers_that_there_is_nobody() {
        assert_eq!(made(vec![frontend(None, 80, 80)], vec![]).len(), 2);
    }

    #[test]
    fn an_unhealthy_backend_stays_a_member_without_new_slots() {
        let unhealthy = backend("a", &["172.18.0.2"], Standing::Unhealthy);
        let pools = made(vec![frontend(None, 80, 80)], vec![unhealthy]);
        assert_eq!(pools[0].members[0].candidate.state, State::Draining);
    }
}
