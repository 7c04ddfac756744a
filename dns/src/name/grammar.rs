//! Where a name lies, and the ways to understand it there, in the order they are tried.
//! The table is at [`Subject`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::directory::{Subject, Transport, Zone};

/// The zones, and the domains that clients append to what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Grammar {
    pub(crate) domain: Box<str>,
    pub(crate) cluster: Option<Box<str>>,
    pub(crate) search: Box<[Box<str>]>,
}

/// Where a name lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Apex(Zone),
    Within {
        zone: Zone,
        relative: &'a str,
    },
    Address(IpAddr),
    /// Below no zone of ours: ours only if the directory knows it.
    Elsewhere,
}

/// `_PORT._PROTOCOL` before a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service<'a> {
    Port {
        name: &'a str,
        protocol: Transport,
    },
    /// `_tcp.NAME`: nothing itself, but the ports are below it.
    Protocol,
}

impl Grammar {
    pub(crate) fn place<'a>(&self, name: &'a str) -> Place<'a> {
        let zones = [
            (Zone::Domain, Some(&*self.domain)),
            (Zone::Cluster, self.cluster.as_deref()),
        ];
        for (zone, suffix) in zones {
            let Some(suffix) = suffix else { continue };
            if name == suffix {
                return Place::Apex(zone);
            }
            if let Some(relative) = below(name, suffix) {
                return Place::Within { zone, relative };
            }
        }
        address(name).map_or(Place::Elsewhere, Place::Address)
    }

    /// A name that lies elsewhere, without each of the search domains that it ends in, itself first.
    pub(crate) fn unqualified<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let stripped = self.search.iter().filter_map(|search| below(name, search));
        std::iter::once(name).chain(stripped)
    }

    pub(crate) fn suffix(&self, zone: Zone) -> &str {
        match zone {
            Zone::Domain => &self.domain,
            Zone::Cluster => self.cluster.as_deref().unwrap_or_default(),
        }
    }
}

/// `name` without `.suffix`; `None` where it is not below it.
pub(crate) fn below<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    let relative = name.strip_suffix(suffix)?.strip_suffix('.')?;
    (!relative.is_empty()).then_some(relative)
}

/// Takes `_port._protocol.` off a name.
pub(crate) fn service_of(name: &str) -> (Option<Service<'_>>, &str) {
    let Some((first, rest)) = name.strip_prefix('_').and_then(|name| name.split_once('.')) else {
        return (None, name);
    };
    let second = rest.strip_prefix('_').and_then(|rest| rest.split_once('.'));
    if let Some((protocol, owner)) = second
        && let Some(protocol) = Transport::parse(protocol)
    {
        let port = Service::Port {
            name: first,
            protocol,
        };
        return (Some(port), owner);
    }
    match Transport::parse(first) {
        Some(_) => (Some(Service::Protocol), rest),
        None => (None, name),
    }
}

/// What a name within a zone may stand for.
pub(crate) fn readings(zone: Zone, name: &str) -> impl Iterator<Item = Subject<'_>> {
    let kubernetes = kubernetes(name);
    let tasks = name.strip_prefix("tasks.").filter(|_| zone == Zone::Domain);
    let names = Some(name).filter(|_| zone == Zone::Domain);
    let tasks = tasks
        .into_iter()
        .flat_map(scopes)
        .map(|(service, scope)| Subject::Tasks { service, scope });
    let names = names
        .into_iter()
        .flat_map(scopes)
        .map(|(name, scope)| Subject::Name { name, scope });
    tasks.chain(names).chain(kubernetes)
}

/// Each way to split a name is a look into the directory; a name of a hundred dots shall not cost a hundred.
const SPLITS: usize = 8;

/// A name whole, then with what follows each dot as its scope, the shortest scope first: the longer a name, the more
/// exactly it says what is meant.
fn scopes(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let split = name
        .rmatch_indices('.')
        .filter(|(dot, _)| *dot > 0)
        .take(SPLITS)
        .map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    std::iter::once((name, None)).chain(split)
}

fn kubernetes(name: &str) -> Option<Subject<'_>> {
    let (service, namespace) = name.strip_suffix(".svc")?.rsplit_once('.')?;
    let (host, service) = match service.rsplit_once('.') {
        Some((host, service)) => (Some(host), service),
        None => (None, service),
    };
    Some(Subject::Kubernetes {
        host,
        service,
        namespace,
    })
}

/// The address of a whole reverse name (RFC 1035 §3.5, RFC 3596 §2.5).
fn address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = below(name, "in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = digits.rsplit('.');
        for octet in &mut octets {
            let label = labels.next()?;
            // One spelling per number: `01` is another name.
            *octet = label
                .parse()
                .ok()
                .filter(|_| label == "0" || !label.starts_with(['0', '+']))?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let nibbles = below(name, "ip6.arpa")?;
    let mut bits = 0u128;
    let mut count = 0;
    for label in nibbles.rsplit('.') {
        let [digit @ (b'0'..=b'9' | b'a'..=b'f')] = label.as_bytes() else {
            return None;
        };
        count += 1;
        bits = bits << 4 | u128::from((*digit as char).to_digit(16)?);
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar() -> Grammar {
        Grammar {
            domain: "portico.internal".into(),
            cluster: Some("cluster.local".into()),
            search: ["corp.example".into()].into(),
        }
    }

    fn name<'a>(name: &'a str, scope: Option<&'a str>) -> Subject<'a> {
        Subject::Name { name, scope }
    }

    #[test]
    fn a_name_is_tried_whole_first() {
        let all: Vec<_> = readings(Zone::Domain, "web.1.front").collect();
        assert_eq!(
            all,
            [
                name("web.1.front", None),
                name("web.1", Some("front")),
                name("web", Some("1.front"))
            ]
        );
    }

    #[test]
    fn a_name_of_many_dots_costs_little() {
        assert_eq!(readings(Zone::Domain, &"a.".repeat(100)).count(), 1 + SPLITS);
    }

    #[test]
    fn tasks_are_a_services_before_they_are_a_name() {
        let all: Vec<_> = readings(Zone::Domain, "tasks.web.front").take(2).collect();
        assert_eq!(
            all,
            [
                Subject::Tasks {
                    service: "web.front",
                    scope: None
                },
                Subject::Tasks {
                    service: "web",
                    scope: Some("front")
                }
            ]
        );
    }

    #[test]
    fn kubernetes_forms() {
        let all: Vec<_> = readings(Zone::Cluster, "web-0.web.shop.svc").collect();
        assert_eq!(
            all,
            [Subject::Kubernetes {
                host: Some("web-0"),
                service: "web",
                namespace: "shop"
            }]
        );
        assert_eq!(readings(Zone::Cluster, "shop.svc").next(), None);
        assert_eq!(readings(Zone::Cluster, "svc").next(), None);
    }

    #[test]
    fn ports() {
        let port = |name, protocol| Some(Service::Port { name, protocol });
        assert_eq!(
            service_of("_http._tcp.web"),
            (port("http", Transport::Tcp), "web")
        );
        assert_eq!(
            service_of("_dns._udp.tasks.web"),
            (port("dns", Transport::Udp), "tasks.web")
        );
        assert_eq!(service_of("_tcp.web"), (Some(Service::Protocol), "web"));
        assert_eq!(service_of("_odd.web"), (None, "_odd.web"));
        assert_eq!(service_of("web"), (None, "web"));
    }

    #[test]
    fn places() {
        let grammar = grammar();
        assert_eq!(grammar.place("portico.internal"), Place::Apex(Zone::Domain));
        assert_eq!(grammar.place("cluster.local"), Place::Apex(Zone::Cluster));
        assert_eq!(
            grammar.place("web.portico.internal"),
            Place::Within {
                zone: Zone::Domain,
                relative: "web"
            }
        );
        assert_eq!(grammar.place("notportico.internal"), Place::Elsewhere);
        assert_eq!(grammar.place("web"), Place::Elsewhere);
        assert_eq!(grammar.place(""), Place::Elsewhere);
    }

    #[test]
    fn search_domains_come_off() {
        let grammar = grammar();
        let all: Vec<_> = grammar.unqualified("web.front.corp.example").collect();
        assert_eq!(all, ["web.front.corp.example", "web.front"]);
    }

    #[test]
    fn addresses() {
        let place = |name| grammar().place(name);
        assert_eq!(
            place("2.0.18.172.in-addr.arpa"),
            Place::Address(Ipv4Addr::new(172, 18, 0, 2).into())
        );
        for odd in [
            "18.172.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "02.0.18.172.in-addr.arpa",
            "256.0.0.1.in-addr.arpa",
        ] {
            assert_eq!(place(odd), Place::Elsewhere, "{odd}");
        }
        let nibbles = "8.".to_owned() + &"0.".repeat(23) + "8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(place(&nibbles), Place::Address("2001:db8::8".parse().unwrap()));
        assert_eq!(place("8.b.d.0.1.0.0.2.ip6.arpa"), Place::Elsewhere);
    }
}
