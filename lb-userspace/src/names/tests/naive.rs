//! The index against the snapshot itself, read from end to end for every question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dns::{Directory, Lookup, Reverse, Subject, Zone};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{HERE, backend, ip, service, snapshot};
use crate::model::{Attachment, Backend, Endpoint, Naming, Service, Snapshot, Standing};
use crate::names::Names;

const NETWORKS: [&str; 4] = [Naming::PUBLIC, "back", "front", "n.m"];
const NAMES: [&str; 6] = ["a", "B", "a.1", "b.front", "x", "x.y"];
const VIPS: [&str; 2] = ["10.254.0.1", "fdfe::1"];
const STACKS: [&str; 2] = ["shop", "Front"];
const ADDRESSES: [&str; 5] = [
    "172.18.0.2",
    "172.18.0.3",
    "172.18.0.4",
    "2001:db8::2",
    "192.0.2.11",
];
const CLIENTS: [&str; 6] = [
    "127.0.0.1",
    "172.18.0.2",
    "172.18.0.3",
    "2001:db8::2",
    "192.0.2.11",
    "198.51.100.7",
];

fn any_backend() -> impl Strategy<Value = Backend> {
    let standing = select(
        &[
            Standing::Active,
            Standing::Warming,
            Standing::Draining,
            Standing::Unhealthy,
        ][..],
    );
    let names = subsequence(&NAMES[..], 0..3);
    let addresses = subsequence(&ADDRESSES[..], 1..3);
    let places = proptest::collection::vec((select(&NETWORKS[..]), select(&ADDRESSES[..])), 0..3);
    (
        select(&NAMES[..]),
        select(&[HERE, "node2"][..]),
        (addresses, places),
        names,
        standing,
    )
        .prop_map(|(task, node, (addresses, places), names, standing)| Backend {
            names: names.into_iter().map(Into::into).collect(),
            attachments: places
                .into_iter()
                .map(|(network, address)| Attachment {
                    network: network.into(),
                    address: ip(address),
                })
                .collect(),
            ..backend(task, node, &addresses, standing)
        })
}

fn any_service() -> impl Strategy<Value = Service> {
    let naming = (
        proptest::option::of(select(&STACKS[..])),
        subsequence(&NETWORKS[..], 1..3),
        subsequence(&NAMES[..], 0..3),
        any::<bool>(),
    );
    let vips = subsequence(&VIPS[..], 0..=2);
    let backends = proptest::collection::vec(any_backend(), 0..4);
    (select(&NAMES[..]), naming, vips, backends).prop_map(
        |(name, (stack, networks, aliases, dnsrr), vips, backends)| {
            let mut service = service(name, &networks, backends);
            service.naming.stack = stack.map(Into::into);
            service.naming.aliases = aliases.into_iter().map(Into::into).collect();
            service.naming.endpoint = if dnsrr { Endpoint::Dnsrr } else { Endpoint::Vip };
            service.vips = vips.into_iter().map(ip).collect();
            service
        },
    )
}

fn any_guests() -> impl Strategy<Value = BTreeMap<IpAddr, std::sync::Arc<[std::sync::Arc<str>]>>> {
    let networks = subsequence(&NETWORKS[..], 0..3);
    let networks = networks.prop_map(|networks| networks.into_iter().map(Into::into).collect());
    let clients = select(&CLIENTS[..]).prop_map(ip);
    proptest::collection::btree_map(clients, networks, 0..3)
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn known_by(backend: &Backend) -> BTreeSet<IpAddr> {
    let places = backend.attachments.iter().map(|place| place.address);
    backend.addresses.iter().copied().chain(places).collect()
}

/// What a client sees, found by reading everything.
struct Naive<'s> {
    snapshot: &'s Snapshot,
    all: bool,
    networks: BTreeSet<&'s str>,
}

impl<'s> Naive<'s> {
    fn new(snapshot: &'s Snapshot, client: IpAddr, own: IpAddr) -> Self {
        let mut networks = BTreeSet::from([Naming::PUBLIC]);
        for service in snapshot.services.values() {
            let mut here = service.backends.iter().filter(|backend| &*backend.node == HERE);
            if here.any(|backend| known_by(backend).contains(&client)) {
                networks.extend(service.naming.networks.iter().map(|network| &**network));
            }
        }
        let guest = snapshot.guests.get(&client).into_iter();
        networks.extend(guest.flat_map(|of| of.iter()).map(|network| &**network));
        Self {
            snapshot,
            all: client.is_loopback() || client == own,
            networks,
        }
    }

    fn sees(&self, service: &Service) -> bool {
        let mut networks = service.naming.networks.iter();
        self.all || networks.any(|network| self.networks.contains(&**network))
    }

    /// Whether a service is within a scope, and if so, whether the client sees it there.
    fn scoped(&self, service: &Service, scope: Option<&str>) -> Option<bool> {
        let Some(scope) = scope else {
            return Some(self.sees(service));
        };
        let network = service.naming.networks.iter().any(|network| &**network == scope);
        let stack = service
            .naming
            .stack
            .as_deref()
            .is_some_and(|stack| same(stack, scope));
        let on_network = network && (self.all || self.networks.contains(scope));
        (network || stack).then(|| on_network || stack && self.sees(service))
    }

    /// Where a task is found by this client, who asked within a scope.
    fn places(&self, service: &Service, backend: &Backend, scope: Option<&str>) -> Vec<IpAddr> {
        let on = |network: &str| {
            let stack = service.naming.stack.as_deref();
            let narrow = scope.is_some_and(|scope| {
                service.naming.networks.iter().any(|network| &**network == scope)
                    && !stack.is_some_and(|stack| same(stack, scope))
            });
            let of_service = service.naming.networks.iter().any(|known| **known == *network);
            of_service && self.networks.contains(network) && (!narrow || scope == Some(network))
        };
        let places = backend.attachments.iter();
        match backend.attachments.is_empty() || self.all && &*backend.node == HERE {
            true => backend.addresses.clone(),
            false => places
                .filter(|place| self.all || on(&place.network))
                .map(|place| place.address)
                .collect(),
        }
    }

    fn tasks(&self, service: &Service, scope: Option<&str>) -> BTreeSet<IpAddr> {
        let of = |standing| {
            let backends = service
                .backends
                .iter()
                .filter(move |backend| backend.standing == standing);
            backends
                .flat_map(|backend| self.places(service, backend, scope))
                .collect::<BTreeSet<_>>()
        };
        let active = of(Standing::Active);
        if service
            .backends
            .iter()
            .all(|backend| backend.standing != Standing::Active)
        {
            of(Standing::Warming)
        } else {
            active
        }
    }

    fn whole(&self, service: &Service, scope: Option<&str>) -> BTreeSet<IpAddr> {
        let mut addresses = service.backends.iter().flat_map(|backend| &backend.addresses);
        let families: BTreeSet<_> = addresses.by_ref().map(IpAddr::is_ipv4).collect();
        let vips = service.vips.iter().copied();
        let vips: BTreeSet<_> = vips
            .filter(|vip| service.backends.is_empty() || families.contains(&vip.is_ipv4()))
            .collect();
        match service.naming.endpoint == Endpoint::Dnsrr || vips.is_empty() {
            true => self.tasks(service, scope),
            false => vips,
        }
    }

    /// Whether an address is somebody's that this client may know.
    fn address(&self, address: IpAddr) -> &'static str {
        let mut owners = Vec::new();
        for service in self.snapshot.services.values() {
            if service.vips.contains(&address) {
                owners.push((true, self.sees(service)));
            }
            for backend in &service.backends {
                if known_by(backend).contains(&address) {
                    owners.push((&*backend.node == HERE, self.sees(service)));
                }
            }
        }
        // Meant are VIPs and tasks here; others only where there is no doubt.
        match owners[..] {
            [] => "unknown",
            [(_, true)] => "found",
            _ if owners.contains(&(true, true)) => "found",
            _ => "hidden",
        }
    }

    fn name(&self, name: &str, scope: Option<&str>) -> String {
        let mut ranks: [Vec<BTreeSet<IpAddr>>; 3] = Default::default();
        let (mut hidden, mut aliases) = (false, true);
        for service in self.snapshot.services.values() {
            let Some(seen) = self.scoped(service, scope) else {
                continue;
            };
            let mut claims = Vec::new();
            if same(&service.name, name) {
                claims.push((0, self.whole(service, scope)));
            }
            if service.naming.aliases.iter().any(|alias| same(alias, name)) {
                claims.push((1, self.whole(service, scope)));
            }
            for backend in &service.backends {
                if backend
                    .names
                    .iter()
                    .chain([&backend.task])
                    .any(|known| same(known, name))
                {
                    let shown = matches!(backend.standing, Standing::Active | Standing::Warming);
                    let addresses = self.places(service, backend, scope).into_iter();
                    claims.push((2, addresses.filter(|_| shown).collect()));
                }
            }
            hidden |= !seen && !claims.is_empty();
            aliases &= seen || claims.iter().all(|(rank, _)| *rank == 1);
            for (rank, addresses) in claims.into_iter().filter(|_| seen) {
                ranks[rank].push(addresses);
            }
        }
        let found = ranks.iter().find(|rank| !rank.is_empty());
        match found {
            Some(addresses) => format!("{:?}", addresses.iter().flatten().collect::<BTreeSet<_>>()),
            None if hidden && !(scope.is_none() && name.contains('.') && aliases) => "hidden".into(),
            None => "unknown".into(),
        }
    }
}

fn told(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Found(entry) => {
            let v4 = entry.v4.iter().map(|address| IpAddr::from(*address));
            let v6 = entry.v6.iter().map(|address| IpAddr::from(*address));
            format!("{:?}", v4.chain(v6).collect::<BTreeSet<_>>())
        }
        Lookup::Hidden => "hidden".into(),
        Lookup::Unknown => "unknown".into(),
    }
}

proptest! {
    /// Over several snapshots, each made of the index before it.
    #[test]
    fn the_index_says_what_the_snapshot_does(
        pictures in proptest::collection::vec((proptest::collection::vec(any_service(), 0..4), any_guests()), 1..4)
    ) {
        let names = Names::new(HERE, [], false);
        let own = ip("192.0.2.11");
        names.own.store(std::sync::Arc::new([own].into()));
        for ((services, guests), generation) in pictures.into_iter().zip(1..) {
            let mut snapshot = Snapshot::clone(&snapshot(generation, services));
            snapshot.guests = guests;
            let snapshot = std::sync::Arc::new(snapshot);
            names.show(&snapshot);
            for client in CLIENTS {
                let naive = Naive::new(&snapshot, ip(client), own);
                for address in ADDRESSES.iter().chain(&VIPS).filter(|address| ip(address) != own) {
                    let told = match names.reverse(ip(client), ip(address)) {
                        Reverse::Found(_) => "found",
                        Reverse::Hidden => "hidden",
                        Reverse::Unknown => "unknown",
                    };
                    prop_assert_eq!(told, naive.address(ip(address)), "{} for {}", address, client);
                }
                for name in ["a", "b", "a.1", "b.front", "x", "x.y", "n"] {
                    for scope in [None, Some("default"), Some("back"), Some("front"), Some("shop"), Some("n.m")] {
                        let subject = Subject::Name { name, scope };
                        let expected = naive.name(name, scope);
                        prop_assert_eq!(told(&names.lookup(ip(client), subject)), expected.clone(), "{} {:?}", client, subject);
                        // What is found within a scope is below it.
                        if let Some(scope) = scope && !["unknown", "hidden"].contains(&&*expected) {
                            prop_assert!(names.encloses(ip(client), Zone::Domain, scope), "{} {}", client, scope);
                        }
                        if let Some((_, above)) = name.split_once('.') && !["unknown", "hidden"].contains(&&*expected) {
                            let above = scope.map_or(above.to_owned(), |scope| format!("{above}.{scope}"));
                            prop_assert!(names.encloses(ip(client), Zone::Domain, &above), "{} {}", client, above);
                        }
                    }
                }
            }
        }
        names.show(&snapshot(99, []));
        let index = names.index.load();
        prop_assert_eq!((index.names.len(), index.enclosing.len(), index.addresses.len(), index.clients.len()), (0, 0, 0, 0));
    }
}
