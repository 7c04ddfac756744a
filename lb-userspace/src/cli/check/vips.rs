//! The networks that VIPs are taken from: whether this node has another use for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::finding::Finding;
use crate::api::published::Published;
use crate::config::Vip;
use crate::plane::collision::{Claims, Collision, Harm, Survey};
use crate::plane::ebpf;

pub async fn check(vip: &Vip, published: Option<&Published>) -> Vec<Finding> {
    let pools = &vip.pool;
    let brought = brought(published);
    if pools.is_empty() && brought.is_empty() {
        return vec![Finding::ok(
            "VIPs",
            "[vip] pool is empty: services get no addresses of their own",
        )];
    }
    let announced: BTreeSet<IpAddr> = brought.keys().copied().collect();
    let in_pool = |vip: &IpAddr| pools.iter().any(|pool| pool.contains(vip));
    let singles = announced.iter().copied().filter(|vip| !in_pool(vip)).collect();
    let nodes = published.into_iter().flat_map(|published| &published.nodes);
    let claims = Claims {
        pools,
        singles: &singles,
        announced: &announced,
        nodes: nodes
            .map(|(name, address)| (name.as_str(), (*address).into()))
            .collect(),
    };
    match ebpf::survey(&claims).await {
        Ok(survey) => findings(pools, &brought, &survey),
        Err(error) => vec![Finding::failure(
            "VIPs",
            format!("cannot be held against this node's routes: {error}"),
            "run as root, in the node's network namespace",
        )],
    }
}

/// VIPs that services bring, with their names.
fn brought(published: Option<&Published>) -> BTreeMap<IpAddr, &str> {
    let services = published.into_iter().flat_map(|published| &published.services);
    services
        .flat_map(|service| service.vips.iter().map(|vip| (*vip, service.name.as_str())))
        .collect()
}

fn findings(pools: &[IpNet], brought: &BTreeMap<IpAddr, &str>, survey: &Survey) -> Vec<Finding> {
    let collisions = survey.collisions.iter();
    let found: Vec<Finding> = collisions
        .map(|collision| finding(collision, brought, &survey.used))
        .collect();
    if !found.is_empty() {
        return found;
    }
    if pools.is_empty() {
        return vec![Finding::ok("VIPs", "no route of this node takes one away")];
    }
    let pools: Vec<String> = pools.iter().map(ToString::to_string).collect();
    vec![Finding::ok(
        "VIPs",
        format!("no address or route of this node lies in {}", pools.join(", ")),
    )]
}

fn finding(collision: &Collision, brought: &BTreeMap<IpAddr, &str>, used: &[IpNet]) -> Finding {
    let (net, words) = (collision.net, collision.words());
    if let Some(service) = brought
        .get(&net.addr())
        .filter(|_| net == IpNet::from(net.addr()))
    {
        let fix = format!("remove that route (ip route show {net}), or give {service} another address");
        return Finding::failure("VIPs", words, fix);
    }
    let free = free(&net, used).map_or("a network that nobody uses".to_owned(), |net| {
        format!("\"{net}\"")
    });
    let fix = format!("write {free} in its place in [vip] pool, on every node");
    match collision.harm {
        Harm::Unrouted | Harm::Part => Finding::failure("VIPs", words, fix),
        Harm::Hides => Finding::warning(
            "VIPs",
            format!("{words}: what else is in it is hidden"),
            format!("if anything is, {fix}"),
        ),
    }
}

/// A network like the pool that this node has no use for.
fn free(pool: &IpNet, used: &[IpNet]) -> Option<IpNet> {
    let candidates: Vec<IpNet> = match pool {
        IpNet::V4(_) => (64..=254)
            .rev()
            .filter_map(|second| IpNet::new(IpAddr::from([10, second, 0, 0]), 16).ok())
            .chain(
                (18..=31)
                    .rev()
                    .filter_map(|second| IpNet::new(IpAddr::from([172, second, 0, 0]), 16).ok()),
            )
            .collect(),
        IpNet::V6(_) => (0..256)
            .filter_map(|subnet| {
                let address = IpAddr::from([0xfdfe, 0x706f, 0x7274, subnet, 0, 0, 0, 0]);
                IpNet::new(address, 112).ok()
            })
            .collect(),
    };
    let overlaps = |net: &IpNet| {
        let mut used = used.iter();
        used.any(|used| net.contains(used) || used.contains(net))
    };
    candidates.into_iter().find(|net| !overlaps(net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    fn found(net: &str, harm: Harm, used: &[&str]) -> (State, String) {
        let collision = Collision {
            net: net.parse().unwrap(),
            what: "something".into(),
            harm,
        };
        let used: Vec<IpNet> = used.iter().map(|net| net.parse().unwrap()).collect();
        let brought = [([198, 51, 100, 80].into(), "web")].into();
        let finding = finding(&collision, &brought, &used);
        (finding.state, finding.fix.unwrap())
    }

    #[test]
    fn a_pool_that_something_else_uses_is_a_failure_and_a_free_network_is_named() {
        let used = ["10.254.7.1/32", "10.253.0.0/17"];
        let (state, fix) = found("10.254.0.0/16", Harm::Part, &used);
        assert_eq!(state, State::Failure);
        assert_eq!(
            fix,
            "write \"10.252.0.0/16\" in its place in [vip] pool, on every node"
        );
        let (state, fix) = found("10.254.0.0/16", Harm::Hides, &["10.0.0.0/8"]);
        assert_eq!(state, State::Warning);
        assert_eq!(
            fix,
            "if anything is, write \"172.31.0.0/16\" in its place in [vip] pool, on every node"
        );
    }

    #[test]
    fn a_vip_that_a_service_brings_is_the_services_business() {
        let (state, fix) = found("198.51.100.80/32", Harm::Unrouted, &[]);
        assert_eq!(state, State::Failure);
        assert!(fix.ends_with("or give web another address"), "{fix}");
    }

    #[test]
    fn pools_that_nothing_else_uses_are_well() {
        let found = findings(&Vip::default().pool, &BTreeMap::new(), &Survey::default());
        assert_eq!((found.len(), found[0].state), (1, State::Ok));
        assert!(
            found[0]
                .words
                .ends_with("lies in 10.254.0.0/16, fdfe:706f:7274::/112")
        );
    }
}
