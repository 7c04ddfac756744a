//! Desired states that use everything there is, for encodings.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::any_desired;
use crate::model::{
    Affinity, Algorithm, Attachment, Desired, DesiredBackend, DesiredService, Endpoint, Exposed, Naming,
    Plane, Protocol, ProxyRules, ProxyVersion, Readiness, Stamps,
};

/// As [`any_desired`], with every field in use.
pub fn any_rich_desired() -> impl Strategy<Value = Desired> {
    any_desired().prop_flat_map(|desired| {
        let count = desired.services.len();
        let dresses = proptest::collection::vec(any_dress(), count);
        let order = Just(desired.services.keys().cloned().collect::<Vec<_>>()).prop_shuffle();
        (Just(desired), dresses, order, 0..=count).prop_map(|(mut desired, dresses, mut order, ordered)| {
            for (service, dress) in desired.services.values_mut().zip(dresses) {
                dress.put_on(Arc::make_mut(service));
            }
            order.truncate(ordered);
            desired.order = order;
            let networks: Arc<[Arc<str>]> = [Arc::from("guests")].into();
            desired.guests = BTreeMap::from([([172, 18, 0, 99].into(), networks)]);
            desired
        })
    })
}

/// What [`any_desired`] leaves as it is by default.
#[derive(Clone, Debug)]
struct Dress {
    stack: Option<String>,
    dnsrr: bool,
    udp: bool,
    sticky: bool,
    readiness: u8,
    stamps: (u64, u64),
    ttl: u32,
    proxy: ProxyRules,
}

fn any_dress() -> impl Strategy<Value = Dress> {
    let stack = proptest::option::of("[a-z]{1,5}");
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let stamps = any::<(u64, u64)>();
    (stack, flags, 0u8..3, stamps, any::<u32>(), any_rules()).prop_map(
        |(stack, (dnsrr, udp, sticky), readiness, stamps, ttl, proxy)| Dress {
            stack,
            dnsrr,
            udp,
            sticky,
            readiness,
            stamps,
            ttl,
            proxy,
        },
    )
}

fn any_rules() -> impl Strategy<Value = ProxyRules> {
    let plane = prop::sample::select(vec![Plane::Auto, Plane::Ebpf, Plane::Proxy]);
    let send = prop::sample::select(vec![None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)]);
    let nets = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"].map(|net| net.parse().unwrap());
    let accept = prop::sample::subsequence(nets.to_vec(), 0..=3);
    let time = || (1..u64::MAX).prop_map(Duration::from_nanos);
    let drain = prop::option::of(any::<u64>().prop_map(Duration::from_nanos));
    let times = (time(), prop::option::of(time()), drain);
    let algorithm = prop::sample::select(vec![Algorithm::Hash, Algorithm::LeastConnections]);
    let rules = (plane, algorithm, send, accept, any::<bool>(), any::<u32>(), times).prop_map(
        |(plane, algorithm, send, accept, transparent, retries, (connect_timeout, idle, drain))| ProxyRules {
            plane,
            algorithm,
            send,
            accept,
            transparent,
            connect_timeout,
            retries,
            idle,
            drain,
        },
    );
    prop_oneof![Just(ProxyRules::default()), rules]
}

impl Dress {
    fn put_on(&self, service: &mut DesiredService) {
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        service.naming = Naming {
            stack: self.stack.as_deref().map(Arc::from),
            networks: vec!["default".into(), "shop_front".into()],
            aliases: self
                .stack
                .iter()
                .map(|stack| format!("www.{stack}").into())
                .collect(),
            endpoint: if self.dnsrr {
                Endpoint::Dnsrr
            } else {
                Endpoint::Vip
            },
            ttl: self.ttl,
        };
        service.vips = vec![[10, 254, 1, 1].into(), "2001:db8:ffff::1".parse().unwrap()];
        service.assigned = vec![Ipv4Addr::new(10, 0, 1, 2)];
        service.exposed = vec![Exposed {
            port: 80,
            protocol,
            name: self.stack.as_deref().map(Arc::from),
        }];
        for frontend in &mut service.frontends {
            frontend.protocol = protocol;
            frontend.inside = self.sticky;
        }
        service.affinity = if self.sticky {
            Affinity::ClientIp
        } else {
            Affinity::None
        };
        service.proxy = self.proxy.clone();
        for backend in &mut service.backends {
            self.put_on_backend(backend);
        }
    }

    fn put_on_backend(&self, backend: &mut DesiredBackend) {
        backend.names = vec!["web.1".into(), format!("web.1.{}", backend.task).into()];
        backend.attachments = vec![Attachment {
            network: "shop_front".into(),
            address: [10, 0, 1, 7].into(),
        }];
        match self.readiness {
            0 => backend.readiness = Readiness::Unready("unhealthy: connection refused".into()),
            1 => backend.readiness = Readiness::Draining,
            _ => {}
        }
        (backend.stamps.first, backend.stamps.last) = self.stamps;
        if self.dnsrr {
            backend.stamps = Stamps::UNKNOWN;
        }
    }
}
