//! What a service is called, and what its name leads to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::model::{Exposed, Family, Frontend, Naming, Service};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamingView {
    /// The service's own, with the stack, and aliases.
    pub names: Vec<String>,
    pub networks: Vec<String>,
    /// Everybody may ask, whatever network he is on.
    pub public: bool,
    /// `vip` or `dnsrr`.
    pub endpoint: String,
    /// Seconds.
    pub ttl: u32,
    pub vips: Vec<IpAddr>,
    /// The tasks' ports, as `http=80/tcp`; where there are VIPs, only those that answer there as they are.
    pub exposed: Vec<String>,
}

pub fn naming(service: &Service) -> NamingView {
    let Naming {
        stack,
        networks,
        aliases,
        endpoint,
        ttl,
    } = &service.naming;
    let own = service.name.to_string();
    let in_stack = stack.iter().map(|stack| format!("{own}.{stack}"));
    let aliases = aliases.iter().map(ToString::to_string);
    NamingView {
        names: [own.clone()].into_iter().chain(in_stack).chain(aliases).collect(),
        networks: networks.iter().map(ToString::to_string).collect(),
        public: networks.iter().any(|network| &**network == Naming::PUBLIC),
        endpoint: endpoint.label().into(),
        ttl: *ttl,
        vips: service.vips.clone(),
        exposed: service
            .exposed
            .iter()
            .filter(|exposed| answers(service, exposed))
            .map(exposed)
            .collect(),
    }
}

/// Frontends beside those that exposed ports have at the VIPs.
pub fn published(service: &Service) -> impl Iterator<Item = &Frontend> {
    service.frontends.iter().filter(|front| {
        let exposed = |exposed: &Exposed| {
            (exposed.port, exposed.port, exposed.protocol) == (front.port, front.target_port, front.protocol)
        };
        let at_vip = front
            .address
            .is_some_and(|address| service.vips.contains(&address));
        !(at_vip && service.exposed.iter().any(exposed))
    })
}

fn answers(service: &Service, exposed: &Exposed) -> bool {
    let mut vips = service.vips.iter();
    vips.all(|vip| service.port_at(*vip, exposed) == Some(exposed.port))
}

fn exposed(exposed: &Exposed) -> String {
    let port = format!("{}/{}", exposed.port, exposed.protocol.label());
    match &exposed.name {
        Some(name) => format!("{name}={port}"),
        None => port,
    }
}

/// A service for which the pools had no address left.
pub fn without_vip(service: &Service) -> Option<Problem> {
    let families: Vec<&str> = service.missed_vips.iter().map(|family| label(*family)).collect();
    if families.is_empty() {
        return None;
    }
    let families = families.join(" and ");
    // Its name leads to what it has, and to its tasks where that is nothing.
    let leads = match service.named_vips().next().is_none() {
        true => "its name leads to its tasks; published ports are served",
        false => "its name leads to its other address; published ports are served",
    };
    Some(
        Problem::new(format!("service {} has no {families} VIP", service.name))
            .because("the pools have no address left")
            .traffic(leads)
            .fix("append a network to [vip] pool, on every node; or set endpoint: dnsrr where no VIP is needed"),
    )
}

pub const fn label(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::sample;
    use crate::model::Protocol;

    fn web(change: impl FnOnce(&mut Service)) -> Service {
        let facts = sample::facts();
        let mut web = Service::clone(&facts.snapshot.services["web"]);
        change(&mut web);
        web
    }

    #[test]
    fn a_service_is_shown_by_all_its_names() {
        let service = web(|web| {
            web.naming.stack = Some("shop".into());
            web.naming.aliases = vec![Arc::from("www")];
            web.exposed = vec![Exposed {
                port: 80,
                protocol: Protocol::Tcp,
                name: Some("http".into()),
            }];
        });
        let mut view = naming(&service);
        assert_eq!(view.names, ["web", "web.shop", "www"]);
        assert_eq!(view.exposed, ["http=80/tcp"]);
        assert!(view.public);
        // A VIP that several share answers at what each publishes.
        let shared = web(|web| {
            web.exposed.clone_from(&service.exposed);
            web.vips = vec![[10, 254, 0, 1].into()];
        });
        view = naming(&shared);
        assert_eq!(view.exposed, Vec::<String>::new());
    }

    #[test]
    fn what_answers_at_a_vip_as_at_the_tasks_is_exposed_and_all_else_is_published() {
        let vip = IpAddr::from([10, 254, 0, 1]);
        let service = web(|web| {
            let at_vip = |port| Frontend {
                address: Some(vip),
                port,
                ..web.frontends[0]
            };
            web.frontends.extend([at_vip(80), at_vip(81)]);
            web.vips = vec![vip];
            web.exposed = vec![Exposed {
                port: 80,
                protocol: Protocol::Tcp,
                name: None,
            }];
        });
        let shown: Vec<u16> = published(&service).map(|front| front.port).collect();
        assert_eq!(shown, [8080, 81]);
    }

    #[test]
    fn a_service_that_the_pools_had_no_address_for_says_so() {
        assert_eq!(without_vip(&web(|_| ())), None);
        let problem = without_vip(&web(|web| web.missed_vips = vec![Family::V4])).unwrap();
        assert!(problem.to_string().starts_with(
            "service web has no IPv4 VIP: the pools have no address left\n  traffic: its name leads to its tasks"
        ));
    }
}
