use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message;
use rstest::rstest;

use super::*;
use crate::model::testing::{any_rich_desired, backend, web};
use crate::model::{HealthCheck, Plane, Probe, ProxyRules};
use crate::source::stream::wire;

proptest! {
    #[test]
    fn everything_but_guests_arrives(desired in any_rich_desired()) {
        prop_assert_eq!(decode(&encode(&desired), None).unwrap(), Desired { guests: Default::default(), ..desired });
    }

    #[test]
    fn what_is_known_is_shared(before in any_rich_desired(), after in any_rich_desired()) {
        let decoded = decode(&encode(&after), Some(&before)).unwrap();
        for (name, service) in &decoded.services {
            let same = before.services.get(name).filter(|known| *known == service);
            prop_assert!(same.is_none_or(|known| Arc::ptr_eq(known, service)));
        }
    }

    #[test]
    fn noise_is_refused_or_understood(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&bytes, None);
    }

    #[test]
    fn a_damaged_picture_never_panics(desired in any_rich_desired(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = encode(&desired).to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
        }
        if let Err(fault) = decode(&bytes, None) {
            prop_assert!(!fault.to_string().contains('\n'));
        }
    }
}

/// The service of a picture after something was done to it.
fn changed(change: impl FnOnce(&mut wire::Service)) -> String {
    let mut picture = picture(&web(vec![backend("web.1", "node1")]));
    change(&mut picture.services[0]);
    decode(&picture.encode_to_vec(), None).unwrap_err().to_string()
}

fn ranged(bits: u32) -> wire::ProxyRules {
    let address = vec![192, 0, 2, 0];
    wire::ProxyRules {
        accept: vec![wire::Range { address, bits }],
        ..wire::ProxyRules::default()
    }
}

#[rstest]
#[case::address(|s: &mut wire::Service| s.backends[0].addresses[0].push(1), "service web: backend web.1: an address of 5 bytes: IPv4 has 4, IPv6 has 16")]
#[case::assigned(|s: &mut wire::Service| s.assigned = vec![vec![0; 16]], "service web: an address of 16 bytes where only IPv4 with its 4 is possible")]
#[case::port(|s: &mut wire::Service| s.frontends[0].port = 65_536, "service web: port 65536 is more than 65535")]
#[case::weight(|s: &mut wire::Service| s.backends[0].weight = 1 << 20, "service web: backend web.1: weight 1048576 is more than 65535")]
#[case::readiness(|s: &mut wire::Service| s.backends[0].readiness = 9, "service web: backend web.1: its readiness is 9, which this version does not know")]
#[case::endpoint(|s: &mut wire::Service| s.endpoint = 0, "service web: its endpoint mode is 0, which this version does not know")]
#[case::range(|s: &mut wire::Service| s.proxy = Some(ranged(33)), "service web: a range of 33 bits, where its addresses have 32")]
#[case::plane(|s: &mut wire::Service| s.proxy = Some(wire::ProxyRules { plane: Some(9), ..ranged(32) }), "service web: its plane is 9, which this version does not know")]
#[case::version(|s: &mut wire::Service| s.proxy = Some(wire::ProxyRules { send: Some(3), ..ranged(32) }), "service web: its version of the PROXY protocol is 3, which this version does not know")]
fn a_fault_says_where_it_is(#[case] change: fn(&mut wire::Service), #[case] words: &str) {
    assert_eq!(changed(change), words);
}

#[test]
fn a_service_twice_is_a_fault() {
    let mut picture = picture(&web(vec![]));
    picture.services.push(picture.services[0].clone());
    let fault = decode(&picture.encode_to_vec(), None).unwrap_err();
    assert_eq!(fault.to_string(), "service web: is there twice");
}

#[test]
fn names_are_kept_once() {
    let decoded = decode(
        &encode(&web(vec![backend("web.1", "node1"), backend("web.2", "node1")])),
        None,
    )
    .unwrap();
    let backends = &decoded.services["web"].backends;
    assert!(Arc::ptr_eq(&backends[0].node, &backends[1].node));
    assert!(Arc::ptr_eq(
        &backends[0].node,
        decoded.nodes.get_key_value("node1").unwrap().0
    ));
}

#[test]
fn checks_by_http_arrive() {
    let mut desired = web(vec![]);
    let service = Arc::make_mut(desired.services.get_mut("web").unwrap());
    service.health = Some(HealthCheck {
        probe: Probe::Http {
            path: "/ready".into(),
        },
        port: 8081,
        interval: Duration::from_millis(1500),
        timeout: Duration::from_nanos(7),
        failures: 1,
        successes: 9,
    });
    assert_eq!(decode(&encode(&desired), None).unwrap(), desired);
}

#[test]
fn rules_of_proxying_cost_nothing_where_nobody_asks_for_any() {
    let mut desired = web(vec![]);
    let picture = picture(&desired);
    assert_eq!(picture.services[0].proxy, None);
    let service = Arc::make_mut(desired.services.get_mut("web").unwrap());
    service.proxy.retries = 0;
    service.proxy.plane = Plane::Ebpf;
    assert_eq!(decode(&encode(&desired), None).unwrap(), desired);
}

#[test]
fn what_an_agent_of_another_version_leaves_out_is_as_it_is_here_by_default() {
    let mut picture = picture(&web(vec![]));
    picture.services[0].proxy = Some(wire::ProxyRules {
        transparent: true,
        ..wire::ProxyRules::default()
    });
    let desired = decode(&picture.encode_to_vec(), None).unwrap();
    let expected = ProxyRules {
        transparent: true,
        ..ProxyRules::default()
    };
    assert_eq!(desired.services["web"].proxy, expected);
}

/// Of a service as an agent reads it that knows the fields to 14 alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Former {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "11")]
    slots: u32,
}

#[test]
fn an_agent_of_an_earlier_version_reads_a_service_without_its_rules() {
    let mut desired = web(vec![]);
    let service = Arc::make_mut(desired.services.get_mut("web").unwrap());
    service.proxy.transparent = true;
    let service = picture(&desired).services.remove(0);
    assert!(service.proxy.is_some());
    let former = Former::decode(&service.encode_to_vec()[..]).unwrap();
    assert_eq!((&*former.name, former.slots), ("web", service.slots));
}
