use proptest::prelude::*;

use super::super::testing::{node, service, web};
use super::super::{Exposed, Naming, Protocol};
use super::*;

fn identity() -> Identity {
    Identity::new([7; 32])
}

fn nets(pools: &[&str]) -> Vec<IpNet> {
    pools.iter().map(|net| net.parse().unwrap()).collect()
}

fn exposing(endpoint: Endpoint) -> DesiredService {
    let mut service = service(8080, vec![]);
    service.naming = Naming {
        endpoint,
        ..Naming::default()
    };
    service.frontends = Vec::new();
    service.exposed = vec![Exposed {
        port: 80,
        protocol: Protocol::Tcp,
        name: None,
    }];
    service
}

/// Services of these names, created in this order.
fn wanted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Desired {
    let mut desired = web(vec![]);
    desired.services.clear();
    for name in names {
        append(&mut desired, name.as_ref(), exposing(Endpoint::Vip));
    }
    desired
}

fn append(desired: &mut Desired, name: &str, service: DesiredService) {
    desired.services.insert(name.into(), Arc::new(service));
    desired.order.push(name.into());
}

fn granted(pools: &[IpNet], desired: &Desired) -> HashMap<Arc<str>, Grant> {
    let mut vips = Vips::new(pools);
    vips.renew(&identity(), desired);
    vips.grants
}

fn vip(vips: &Vips, service: &str) -> IpAddr {
    vips.grant(service).unwrap().vips[0]
}

#[test]
fn a_service_gets_an_address_of_each_family_that_the_pools_have() {
    let vips = granted(
        &nets(&["10.254.0.0/16", "fdfe:706f:7274::/112"]),
        &wanted(["web"]),
    );
    let [v4, v6] = vips["web"].vips[..] else {
        panic!("{vips:?}")
    };
    assert!(v4.is_ipv4() && v6.is_ipv6());
    assert!(vips["web"].missed.is_empty());
    assert!(granted(&[], &wanted(["web"])).is_empty());
}

#[test]
fn who_brings_an_address_gets_none_of_its_family_and_who_wants_none_gets_none() {
    let mut desired = wanted(["web"]);
    let mut own = exposing(Endpoint::Vip);
    own.vips = vec![[198, 51, 100, 80].into()];
    append(&mut desired, "own", own);
    append(&mut desired, "tasks", exposing(Endpoint::Dnsrr));
    let mut mute = exposing(Endpoint::Vip);
    mute.exposed.clear();
    append(&mut desired, "mute", mute);
    let vips = granted(&nets(&["10.254.0.0/16", "fdfe:706f:7274::/112"]), &desired);
    assert!(vips["own"].vips[..].iter().all(IpAddr::is_ipv6) && vips["own"].vips.len() == 1);
    assert!(!vips.contains_key("tasks") && !vips.contains_key("mute"));
}

#[test]
fn an_address_that_somebody_has_is_not_given_out() {
    let pools = nets(&["10.254.0.0/28"]);
    let names: Vec<String> = (0..14).map(|n| format!("s{n}")).collect();
    let mut desired = wanted(&names);
    desired.nodes.insert(
        "inside".into(),
        super::super::DesiredNode {
            address: [10, 254, 0, 3].into(),
            ..node(1)
        },
    );
    let mut own = exposing(Endpoint::Vip);
    own.vips = vec![[10, 254, 0, 5].into()];
    append(&mut desired, "own", own);
    let vips = granted(&pools, &desired);
    let given: BTreeSet<IpAddr> = vips.values().flat_map(|grant| grant.vips.clone()).collect();
    let free = (1..15).filter(|last| ![3, 5].contains(last));
    assert_eq!(given, free.map(|last| IpAddr::from([10, 254, 0, last])).collect());
    // Fourteen wanted one of twelve: the last two in order have none.
    for late in ["s12", "s13"] {
        assert_eq!(vips[late].missed, [Family::V4]);
    }
}

#[test]
fn the_next_pool_is_used_when_the_former_is_full_and_a_further_one_displaces_nobody() {
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let desired = wanted(&names);
    let small = granted(&nets(&["10.254.0.0/28"]), &desired);
    let both = granted(&nets(&["10.254.0.0/28", "10.253.0.0/16"]), &desired);
    let lacking = small.values().filter(|grant| !grant.missed.is_empty());
    assert_eq!(lacking.count(), 6);
    for (name, grant) in &both {
        let one = grant.vips[0];
        assert!(small[name].vips.first().is_none_or(|former| *former == one));
    }
}

#[test]
fn a_service_whose_address_is_claimed_by_another_moves_and_is_told() {
    let pools = nets(&["10.254.0.0/16"]);
    let mut desired = wanted(["web", "api"]);
    let mut vips = Vips::new(&pools);
    assert_eq!(vips.renew(&identity(), &desired).len(), 2);
    assert!(vips.renew(&identity(), &desired).is_empty());
    let (web, api) = (vip(&vips, "web"), vip(&vips, "api"));
    let mut own = exposing(Endpoint::Vip);
    own.vips = vec![web];
    append(&mut desired, "own", own);
    let turned = vips.renew(&identity(), &desired);
    assert_eq!(turned, ["web".into()].into());
    assert!(vip(&vips, "web") != web && vip(&vips, "api") == api);
    desired.services.remove("own");
    vips.renew(&identity(), &desired);
    assert_eq!(vip(&vips, "web"), web);
}

#[test]
fn an_address_that_two_bring_is_shared() {
    let mut desired = wanted(["web"]);
    let address = IpAddr::from([198, 51, 100, 80]);
    let mut vips = Vips::new(&[]);
    for (name, shared) in [("a", false), ("b", true)] {
        let mut own = exposing(Endpoint::Vip);
        own.vips = vec![address];
        append(&mut desired, name, own);
        let turned = vips.renew(&identity(), &desired);
        assert_eq!((vips.is_shared(address), turned.contains("a")), (shared, shared));
    }
}

/// Removing a service moves another only where both hashed to one address.
#[test]
fn removing_one_of_a_thousand_moves_next_to_nobody() {
    let pools = nets(&["10.254.0.0/16"]);
    let names: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
    let before = granted(&pools, &wanted(&names));
    let moved: usize = (0..1000)
        .step_by(50)
        .map(|gone| {
            let rest = names.iter().enumerate().filter(|(n, _)| *n != gone);
            let after = granted(&pools, &wanted(rest.map(|(_, name)| name)));
            after
                .iter()
                .filter(|(name, grant)| before[*name] != **grant)
                .count()
        })
        .sum();
    assert!(moved <= 2, "{moved} moved in 20 removals");
}

fn any_pools() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = prop_oneof![
        Just(vec![]),
        Just(nets(&["10.254.0.0/28"])),
        Just(nets(&["10.254.0.0/28", "10.253.0.0/27"])),
        Just(nets(&["10.254.0.0/16"])),
    ];
    let v6 = prop_oneof![
        Just(vec![]),
        Just(nets(&["fdfe:706f:7274::/124"])),
        Just(nets(&["fdfe:706f:7274::/64"])),
    ];
    (v4, v6).prop_map(|(v4, v6)| [v4, v6].concat())
}

/// Services of few names, some with addresses of their own in and outside of the pools.
fn any_wanted() -> impl Strategy<Value = Desired> {
    let service = (0_u8..8, 0_u8..30, any::<bool>());
    let services = proptest::collection::vec(("[a-f]{1,2}", service), 0..40);
    (services, 0_u8..20, any::<bool>()).prop_map(|(services, node_last, ordered)| {
        let mut desired = wanted::<&str>([]);
        desired.nodes.insert(
            "inside".into(),
            super::super::DesiredNode {
                address: [10, 254, 0, node_last].into(),
                ..node(1)
            },
        );
        for (name, (kind, last, six)) in services {
            let mut service = exposing(if kind == 0 { Endpoint::Dnsrr } else { Endpoint::Vip });
            if kind == 1 {
                service.vips = vec![[10, 254, 0, last].into()];
            }
            if kind == 2 && six {
                service.vips = vec![Ipv6Addr::new(0xfdfe, 0x706f, 0x7274, 0, 0, 0, 0, last.into()).into()];
            }
            append(&mut desired, &name, service);
        }
        if !ordered {
            desired.order.clear();
        }
        desired
    })
}

proptest! {
    #[test]
    fn no_address_is_given_to_two_or_belongs_to_somebody_else(pools in any_pools(), desired in any_wanted()) {
        let vips = granted(&pools, &desired);
        let mut others: HashSet<IpAddr> = desired.nodes.values().map(|node| node.address.into()).collect();
        others.extend(desired.services.values().flat_map(|service| service.vips.clone()));
        for (name, grant) in &vips {
            let own = &desired.services[name].vips;
            for family in Family::ALL {
                let pooled = pools.iter().any(|net| Family::of(net.addr()) == family);
                let has = |list: &[IpAddr]| list.iter().filter(|vip| Family::of(**vip) == family).count();
                let lacks = usize::from(grant.missed.contains(&family));
                let wanted = usize::from(pooled && has(own) == 0);
                prop_assert_eq!(has(&grant.vips) + lacks, wanted);
            }
            for vip in &grant.vips {
                prop_assert!(others.insert(*vip), "{vip} of {name} is another's");
                let net = pools.iter().find(|net| net.contains(vip)).unwrap();
                prop_assert!(*vip != net.network());
                prop_assert!(vip.is_ipv6() || *vip != net.broadcast());
            }
        }
    }

    /// Whoever finds nothing has found everything taken.
    #[test]
    fn nobody_goes_without_while_an_address_is_free(desired in any_wanted()) {
        let pools = nets(&["10.254.0.0/28"]);
        let vips = granted(&pools, &desired);
        if vips.values().any(|grant| !grant.missed.is_empty()) {
            let mut taken: BTreeSet<IpAddr> = vips.values().flat_map(|grant| grant.vips.clone()).collect();
            taken.extend(desired.nodes.values().map(|node| IpAddr::from(node.address)));
            taken.extend(desired.services.values().flat_map(|service| service.vips.clone()));
            prop_assert!((1..15).all(|last| taken.contains(&IpAddr::from([10, 254, 0, last]))));
        }
    }

    #[test]
    fn what_comes_last_displaces_nobody(pools in any_pools(), desired in any_wanted(), names in proptest::collection::vec("[g-k]{1,2}", 1..10)) {
        let mut desired = desired;
        // Where the order is not known it is that of the names, and these come last in it, too.
        let before = granted(&pools, &desired);
        let ordered = !desired.order.is_empty();
        for name in names {
            append(&mut desired, &name, exposing(Endpoint::Vip));
        }
        if !ordered {
            desired.order.clear();
        }
        let after = granted(&pools, &desired);
        for (name, grant) in &before {
            prop_assert_eq!(&after[name], grant);
        }
    }

    /// Whatever came before, and on whichever node, the same wishes give the same addresses; and whoever is not told of a
    /// change has none.
    #[test]
    fn the_way_to_a_state_does_not_matter(pools in any_pools(), states in proptest::collection::vec(any_wanted(), 1..5)) {
        let mut walked = Vips::new(&pools);
        for state in &states {
            let before = walked.grants.clone();
            let turned = walked.renew(&identity(), state);
            for (name, grant) in &walked.grants {
                let moved = before.get(name) != Some(grant);
                let brings = !state.services[name].vips.is_empty();
                prop_assert!(turned.contains(name) == moved || brings);
                prop_assert!(turned.contains(name) || !moved);
            }
            let mut direct = Vips::new(&pools);
            direct.renew(&identity(), state);
            prop_assert_eq!(&walked.grants, &direct.grants);
            prop_assert_eq!(&walked.taken, &direct.taken);
            prop_assert_eq!(&walked.shared, &direct.shared);
            let used = |vips: &Vips| vips.networks.iter().map(|network| network.used).collect::<Vec<_>>();
            prop_assert_eq!(used(&walked), used(&direct));
        }
    }
}
