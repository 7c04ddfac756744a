//! VIPs for services that bring none: taken from the pools, the same on every node and after every restart, because
//! they follow from the services' names and their order alone.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Desired, DesiredService, Endpoint, Family, Identity};

/// What the pools have for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// At most one of each family.
    pub vips: Vec<IpAddr>,
    /// Families in which the pools had no address left.
    pub missed: Vec<Family>,
}

/// Remembers the grants, and recomputes only those that come after a change.
#[derive(Debug, Default)]
pub struct Vips {
    networks: Vec<Network>,
    /// Addresses of the pools that somebody has already: nodes, and services that bring their own.
    reserved: BTreeSet<IpAddr>,
    /// In the order in which they take.
    claims: Vec<Claim>,
    taken: HashSet<IpAddr>,
    grants: HashMap<Arc<str>, Grant>,
    /// Addresses that several services bring.
    shared: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    service: Arc<str>,
    /// In the order of [`Family::ALL`].
    families: [bool; 2],
}

#[derive(Debug)]
struct Network {
    net: IpNet,
    /// Addresses of it that are reserved or taken.
    used: u64,
}

/// Candidates of a service in one network by hash; after these the first free address is looked for in a row, which a pool
/// that is nearly full comes down to.
const HASHED: u32 = 32;

impl Vips {
    /// `pools` in the order in which they are used: the next one of a family when the former is full.
    pub fn new(pools: &[IpNet]) -> Self {
        let networks = pools.iter().map(|&net| Network {
            net: net.trunc(),
            used: 0,
        });
        Self {
            networks: networks.collect(),
            ..Self::default()
        }
    }

    /// What the pools have for this service.
    pub fn grant(&self, service: &str) -> Option<&Grant> {
        self.grants.get(service)
    }

    /// Whether several services bring this address: at it each answers at its published ports only.
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.shared.contains(&address)
    }

    /// Whether `after` may take something else than `before` did, or leave others something else.
    pub fn differ(before: &DesiredService, after: &DesiredService) -> bool {
        let addresses = |service: &DesiredService| -> BTreeSet<IpAddr> { own_addresses(service).collect() };
        wants_any(before) != wants_any(after)
            || before.vips != after.vips
            || addresses(before) != addresses(after)
    }

    /// Takes anew what is wanted now, and tells the services for which anything is different.
    pub fn renew(&mut self, identity: &Identity, desired: &Desired) -> BTreeSet<Arc<str>> {
        let mut turned = self.find_shared(desired);
        let reserved = self.find_reserved(desired);
        let claims = self.find_claims(desired);
        let kept = if reserved == self.reserved {
            let same = self.claims.iter().zip(&claims).take_while(|(a, b)| a == b);
            same.count()
        } else {
            0
        };
        let former: Vec<(Arc<str>, Grant)> = self
            .claims
            .split_off(kept)
            .into_iter()
            .filter_map(|claim| self.grants.remove_entry(&claim.service))
            .collect();
        for vip in former.iter().flat_map(|(_, grant)| &grant.vips) {
            self.give_back(*vip);
        }
        if reserved != self.reserved {
            self.reserve(reserved);
        }
        for claim in claims.into_iter().skip(kept) {
            let grant = self.take(identity, &claim);
            self.grants.insert(Arc::clone(&claim.service), grant);
            self.claims.push(claim);
        }
        let mut before: HashMap<&str, &Grant> = HashMap::with_capacity(former.len());
        before.extend(former.iter().map(|(service, grant)| (&**service, grant)));
        for claim in &self.claims[kept..] {
            let former = before.remove(&*claim.service);
            if former != self.grants.get(&claim.service) {
                turned.insert(Arc::clone(&claim.service));
            }
        }
        let gone = former
            .iter()
            .filter(|(service, _)| before.contains_key(&**service));
        turned.extend(gone.map(|(service, _)| Arc::clone(service)));
        turned
    }

    fn find_shared(&mut self, desired: &Desired) -> BTreeSet<Arc<str>> {
        let mut seen: HashMap<IpAddr, bool> = HashMap::new();
        for service in desired.services.values() {
            let own: BTreeSet<IpAddr> = own_addresses(service).collect();
            for address in own {
                seen.entry(address)
                    .and_modify(|shared| *shared = true)
                    .or_default();
            }
        }
        let shared = seen.into_iter().filter(|(_, shared)| *shared);
        let shared: BTreeSet<IpAddr> = shared.map(|(address, _)| address).collect();
        if shared == self.shared {
            return BTreeSet::new();
        }
        let changed: BTreeSet<IpAddr> = shared.symmetric_difference(&self.shared).copied().collect();
        self.shared = shared;
        let turned = desired
            .services
            .iter()
            .filter(|(_, service)| own_addresses(service).any(|address| changed.contains(&address)));
        turned.map(|(name, _)| Arc::clone(name)).collect()
    }

    fn find_reserved(&self, desired: &Desired) -> BTreeSet<IpAddr> {
        let nodes = desired.nodes.values().map(|node| IpAddr::from(node.address));
        let services = desired
            .services
            .values()
            .flat_map(|service| own_addresses(service));
        let inside = |address: &IpAddr| self.networks.iter().any(|network| network.has(*address));
        nodes.chain(services).filter(inside).collect()
    }

    fn find_claims(&self, desired: &Desired) -> Vec<Claim> {
        let pooled = Family::ALL.map(|family| self.networks.iter().any(|net| net.family() == family));
        if pooled == [false; 2] {
            return Vec::new();
        }
        in_order(desired)
            .filter(|(_, service)| wants_any(service))
            .filter_map(|(name, service)| {
                let mut families = pooled;
                for vip in &service.vips {
                    families[Family::of(*vip) as usize] = false;
                }
                (families != [false; 2]).then(|| Claim {
                    service: Arc::clone(name),
                    families,
                })
            })
            .collect()
    }

    fn reserve(&mut self, reserved: BTreeSet<IpAddr>) {
        for address in std::mem::take(&mut self.reserved) {
            self.give_back(address);
        }
        for &address in &reserved {
            self.mark(address);
        }
        self.reserved = reserved;
    }

    fn take(&mut self, identity: &Identity, claim: &Claim) -> Grant {
        let mut grant = Grant::default();
        let wanted = |family: &Family| claim.families[*family as usize];
        for family in Family::ALL.into_iter().filter(wanted) {
            match self.find(identity, &claim.service, family) {
                Some(vip) => {
                    self.mark(vip);
                    grant.vips.push(vip);
                }
                None => grant.missed.push(family),
            }
        }
        grant
    }

    /// The first of the service's candidates that is free.
    fn find(&self, identity: &Identity, service: &str, family: Family) -> Option<IpAddr> {
        let mut networks = self.networks.iter().filter(|network| network.family() == family);
        networks.find_map(|network| {
            if network.used >= network.hosts() {
                return None;
            }
            let hashed = (0..HASHED).map(|attempt| identity.vip(service, family, attempt) % network.hosts());
            let in_a_row = {
                let first = identity.vip(service, family, 0) % network.hosts();
                (first..network.hosts()).chain(0..first)
            };
            hashed
                .chain(in_a_row)
                .map(|host| network.host(host))
                .find(|address| !self.taken.contains(address))
        })
    }

    fn mark(&mut self, address: IpAddr) {
        if self.taken.insert(address) {
            self.count(address, |used| used + 1);
        }
    }

    fn give_back(&mut self, address: IpAddr) {
        if self.taken.remove(&address) {
            self.count(address, |used| used - 1);
        }
    }

    /// Only addresses that can be given out count.
    fn count(&mut self, address: IpAddr, change: impl Fn(u64) -> u64) {
        let mut networks = self.networks.iter_mut();
        if let Some(network) = networks.find(|network| network.has(address)) {
            network.used = change(network.used);
        }
    }
}

impl Network {
    fn family(&self) -> Family {
        Family::of(self.net.addr())
    }

    /// How many addresses of it a service can have: IPv4's first means the network and its last everybody in it, IPv6's
    /// first means any router (RFC 4291, 2.6.1).
    fn hosts(&self) -> u64 {
        match self.net {
            IpNet::V4(net) => (1_u64 << (32 - net.prefix_len())).saturating_sub(2),
            IpNet::V6(net) => match 128 - net.prefix_len() {
                64.. => u64::MAX,
                bits => (1 << bits) - 1,
            },
        }
    }

    /// The `number`th of these, from 0.
    fn host(&self, number: u64) -> IpAddr {
        match self.net {
            IpNet::V4(net) => Ipv4Addr::from_bits(net.network().to_bits() + 1 + number as u32).into(),
            IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits() + 1 + u128::from(number)).into(),
        }
    }

    /// Whether a service can be given this address from here.
    fn has(&self, address: IpAddr) -> bool {
        self.net.contains(&address)
            && address != self.net.network()
            && !(address.is_ipv4() && address == self.net.broadcast())
    }
}

/// All services, first those whose order is known.
fn in_order(desired: &Desired) -> impl Iterator<Item = (&Arc<str>, &Arc<DesiredService>)> {
    let mut known: HashSet<&str> = HashSet::with_capacity(desired.order.len());
    let mut first = Vec::with_capacity(desired.services.len());
    for name in &desired.order {
        if let Some(found) = desired.services.get_key_value(name)
            && known.insert(name)
        {
            first.push(found);
        }
    }
    let rest = desired
        .services
        .iter()
        .filter(move |(name, _)| !known.contains(&***name));
    first.into_iter().chain(rest)
}

/// A service that answers nowhere inside the cluster needs no address there.
fn wants_any(service: &DesiredService) -> bool {
    service.naming.endpoint == Endpoint::Vip && !service.exposed.is_empty()
}

/// The addresses it brings.
fn own_addresses(service: &DesiredService) -> impl Iterator<Item = IpAddr> {
    let published = service.frontends.iter().filter_map(|frontend| frontend.address);
    service.vips.iter().copied().chain(published)
}
