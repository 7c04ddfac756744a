//! Desired states that use everything there is, for encodings.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;

use super::any_desired;
use crate::model::{
    Affinity, Attachment, Desired, DesiredBackend, DesiredService, Endpoint, Exposed, Naming, Protocol,
    Readiness, Stamps,
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
}

fn any_dress() -> impl Strategy<Value = Dress> {
    let stack = proptest::option::of("[a-z]{1,5}");
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (stack, flags, 0u8..3, any::<(u64, u64)>(), any::<u32>()).prop_map(
        |(stack, (dnsrr, udp, sticky), readiness, stamps, ttl)| Dress {
            stack,
            dnsrr,
            udp,
            sticky,
            readiness,
            stamps,
            ttl,
        },
    )
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
