//! Connections to tasks of this node from their clients' own addresses, for services that ask for it.
//!
//! What such a task answers goes to the client's address, and has to come back to the socket here: a rule for each of these tasks
//! (its address and port as the source) leads to a routing table in which everything is this machine's own.

mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::ways::{Task, Ways};
use crate::interfaces;
use crate::model::{Protocol, Snapshot};
use crate::plane::Problem;
use rules::Rules;

/// Keeps the way back for the tasks that need one.
#[derive(Debug)]
pub struct Transparent {
    ways: Arc<Ways>,
    rules: Rules,
}

impl Transparent {
    pub fn new(ways: Arc<Ways>) -> Self {
        Self {
            ways,
            rules: Rules::default(),
        }
    }

    /// Does what the snapshot asks for, for tasks of `node`.
    pub async fn follow(&mut self, snapshot: &Snapshot, node: &str) {
        let mut wanted = BTreeSet::new();
        for pool in &snapshot.pools {
            let service = snapshot.services.get(&pool.service);
            if service.is_none_or(|service| !service.proxy.transparent) {
                continue;
            }
            let protocols: BTreeSet<Protocol> = pool.frontends.iter().map(|front| front.protocol).collect();
            let own = pool.members.iter().filter(|member| &*member.node == node);
            for member in own {
                let address = SocketAddr::new(member.address, pool.target_port);
                wanted.extend(protocols.iter().map(|&protocol| Task { protocol, address }));
            }
        }
        // Nobody takes a way that is about to go, nor one that is not there yet.
        self.tell(&wanted);
        self.rules.follow(wanted.clone()).await;
        self.tell(&wanted);
    }

    /// Does what is left to be done.
    pub async fn mend(&mut self) {
        let wanted = self.rules.wanted().clone();
        self.rules.mend().await;
        self.tell(&wanted);
    }

    pub fn doubt(&mut self) {
        self.rules.doubt();
    }

    pub fn are_settled(&self) -> bool {
        self.rules.are_settled()
    }

    fn tell(&self, wanted: &BTreeSet<Task>) {
        let there = wanted.iter().filter(|task| self.rules.has(task));
        let networks = networks();
        let tasks = there.map(|task| (*task, network(task.address.ip(), &networks)));
        self.ways.lead_back(tasks.collect());
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.rules.problem().map(|reason| Problem {
            error: format!("answers of tasks to clients' own addresses cannot be led here: {reason}"),
            traffic: "services with transparent connections are served; their tasks see an address of this node".into(),
            fix: "give the agent CAP_NET_ADMIN; the kernel needs CONFIG_IP_MULTIPLE_TABLES. It is tried again each second".into(),
        }).into_iter()
    }
}

/// The smallest network of this machine that an address is in.
fn network(ip: IpAddr, networks: &[IpNet]) -> IpNet {
    let around = networks.iter().filter(|net| net.contains(&ip));
    around
        .max_by_key(|net| net.prefix_len())
        .copied()
        .unwrap_or(ip.into())
}

/// Networks that this machine has an address of. None where the kernel does not say.
fn networks() -> Vec<IpNet> {
    let addresses = interfaces::addresses().into_iter().flatten();
    addresses.filter_map(|address| address.network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_shares_the_smallest_network_that_it_is_in() {
        let networks = ["172.16.0.0/12", "172.18.0.0/16", "10.0.0.0/8"].map(|net| net.parse().unwrap());
        let of = |ip: &str| network(ip.parse().unwrap(), &networks).to_string();
        assert_eq!(of("172.18.0.2"), "172.18.0.0/16");
        assert_eq!(of("172.19.0.2"), "172.16.0.0/12");
        assert_eq!(of("192.0.2.2"), "192.0.2.2/32");
    }
}
