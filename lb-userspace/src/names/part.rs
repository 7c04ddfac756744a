//! What one service gives to the picture: made once, and shared by every answer until the service changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dns::{Entry, Host, Pointer, Port, Target, Transport, Zone};

use crate::model::{Backend, Endpoint, Family, Naming, Protocol, Service, Standing};

/// A service with all that is answered about it.
pub struct Part {
    pub service: Arc<Service>,
    /// Lower-case, as everything here that is compared with what clients ask for.
    pub networks: Box<[Arc<str>]>,
    pub stack: Option<Arc<str>>,
    /// Whether everybody sees it.
    pub public: bool,
    /// Where its name leads.
    pub whole: Forms,
    pub tasks: Forms,
    /// In the order of the service's backends.
    pub each: Box<[Task]>,
    /// Of its VIPs.
    pub pointer: Option<Arc<Pointer>>,
    /// Everything it is called.
    pub claims: Box<[(Arc<str>, Kind)]>,
}

/// What is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Service,
    Alias,
    /// By its place among the service's backends.
    Task(usize),
}

/// One answer as it is given in each zone: SRV records name hosts, and those lie in the zone that was asked.
#[derive(Clone)]
pub struct Forms {
    pub domain: Arc<Entry>,
    /// Where there is a Kubernetes zone and the service has a namespace.
    pub cluster: Option<Arc<Entry>>,
}

/// What is answered about one task.
pub struct Task {
    pub forms: Forms,
    pub pointer: Option<Arc<Pointer>>,
}

/// Names that lead to something, in each zone.
#[derive(Clone, Default)]
struct Hosts {
    domain: Option<Host>,
    cluster: Option<Host>,
}

impl Part {
    /// `cluster`: whether there is a Kubernetes zone.
    pub fn new(service: &Arc<Service>, cluster: bool) -> Self {
        let naming = &service.naming;
        let stack: Option<Arc<str>> = naming.stack.as_deref().map(lower);
        let namespace = stack.as_deref().filter(|_| cluster);
        let own_name = lower(&service.name);
        let hosts = Hosts::new(
            &own_name,
            namespace.map(|stack| format!("{own_name}.{stack}.svc")),
        );
        let called: Vec<_> = service
            .backends
            .iter()
            .map(|backend| host_of(service, backend))
            .collect();
        let tasks: Vec<_> = service.backends.iter().zip(&called).collect();
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|(backend, name)| {
                let cluster = namespace.map(|stack| format!("{name}.{own_name}.{stack}.svc"));
                (backend, Hosts::new(name, cluster))
            })
            .collect();
        let all = Forms::new(service, &chosen(&tasks));
        let each = tasks
            .iter()
            .map(|task| {
                let shown = matches!(task.0.standing, Standing::Active | Standing::Warming);
                Task {
                    forms: Forms::new(service, if shown { std::slice::from_ref(task) } else { &[] }),
                    pointer: pointer(task.1.domain.as_ref(), naming),
                }
            })
            .collect();
        Self {
            networks: naming.networks.iter().map(|network| lower(network)).collect(),
            public: naming.networks.iter().any(|network| **network == *Naming::PUBLIC),
            whole: vips(service, &hosts).unwrap_or_else(|| all.clone()),
            tasks: all,
            each,
            pointer: pointer(hosts.domain.as_ref(), naming),
            claims: claims(service, own_name, &called),
            stack,
            service: Arc::clone(service),
        }
    }
}

impl Hosts {
    fn new(domain: &str, cluster: Option<String>) -> Self {
        let host = |zone, name: &str| is_askable(name).then(|| Host::new(zone, name).ok())?;
        Self {
            domain: host(Zone::Domain, domain),
            cluster: cluster.and_then(|name| host(Zone::Cluster, &name)),
        }
    }
}

impl Forms {
    /// An answer that leads to these tasks.
    fn new(service: &Service, tasks: &[(&Backend, Hosts)]) -> Self {
        let entry = |host: fn(&Hosts) -> Option<&Host>| {
            let addresses = tasks.iter().flat_map(|(backend, _)| &backend.addresses);
            let target = |port, (backend, hosts): &(&Backend, Hosts)| {
                Some(Target {
                    priority: 0,
                    weight: backend.weight,
                    port,
                    host: host(hosts)?.clone(),
                    addresses: backend.addresses.as_slice().into(),
                })
            };
            entry(service, addresses, |port| {
                tasks.iter().filter_map(|task| target(port, task)).collect()
            })
        };
        Self {
            domain: entry(|hosts| hosts.domain.as_ref()),
            cluster: tasks
                .iter()
                .any(|(_, hosts)| hosts.cluster.is_some())
                .then(|| entry(|hosts| hosts.cluster.as_ref())),
        }
    }
}

/// What leads to the VIPs; `None` where the name leads to the tasks.
fn vips(service: &Service, hosts: &Hosts) -> Option<Forms> {
    if service.naming.endpoint == Endpoint::Dnsrr || service.vips.is_empty() {
        return None;
    }
    // An address that no task could answer at would be waited for in vain, and IPv6 is tried first.
    let served = |vip: &&IpAddr| {
        let mut addresses = service.backends.iter().flat_map(|backend| &backend.addresses);
        service.backends.is_empty() || addresses.any(|address| Family::of(*address) == Family::of(**vip))
    };
    let vips: Vec<IpAddr> = service.vips.iter().filter(served).copied().collect();
    let form = |host: &Host| {
        entry(service, &vips, |port| {
            let target = Target {
                priority: 0,
                weight: 1,
                port,
                host: host.clone(),
                addresses: vips.as_slice().into(),
            };
            vec![target]
        })
    };
    let domain = match &hosts.domain {
        Some(host) => form(host),
        None => entry(service, &vips, |_| Vec::new()),
    };
    Some(Forms {
        domain,
        cluster: hosts.cluster.as_ref().map(form),
    })
}

fn entry<'a>(
    service: &Service,
    addresses: impl IntoIterator<Item = &'a IpAddr>,
    targets: impl Fn(u16) -> Vec<Target>,
) -> Arc<Entry> {
    let (mut v4, mut v6) = (BTreeSet::<Ipv4Addr>::new(), BTreeSet::<Ipv6Addr>::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.insert(*address),
            IpAddr::V6(address) => v6.insert(*address),
        };
    }
    let ports = service.exposed.iter().filter_map(|exposed| {
        Some(Port {
            name: exposed.name.as_deref()?.to_ascii_lowercase().into(),
            protocol: match exposed.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
            },
            targets: targets(exposed.port).into(),
        })
    });
    Arc::new(Entry {
        ttl: service.naming.ttl,
        v4: v4.into_iter().collect(),
        v6: v6.into_iter().collect(),
        ports: ports.collect(),
    })
}

/// Those that take new connections; those that soon will, where there are no others.
fn chosen<'a>(tasks: &[(&'a Backend, Hosts)]) -> Vec<(&'a Backend, Hosts)> {
    let standing = |wanted| {
        let tasks = tasks.iter().filter(move |task| task.0.standing == wanted);
        tasks.cloned().collect::<Vec<_>>()
    };
    let active = standing(Standing::Active);
    match active.is_empty() {
        true => standing(Standing::Warming),
        false => active,
    }
}

fn pointer(host: Option<&Host>, naming: &Naming) -> Option<Arc<Pointer>> {
    let host = host?.clone();
    Some(Arc::new(Pointer {
        host,
        ttl: naming.ttl,
    }))
}

fn claims(service: &Service, own_name: Arc<str>, called: &[Arc<str>]) -> Box<[(Arc<str>, Kind)]> {
    let aliases = service.naming.aliases.iter();
    let mut claims: BTreeSet<_> = aliases.map(|alias| (lower(alias), Kind::Alias)).collect();
    claims.insert((own_name, Kind::Service));
    for (place, (backend, called)) in service.backends.iter().zip(called).enumerate() {
        let names = backend.names.iter().chain([&backend.task, called]);
        claims.extend(names.map(|name| (lower(name), Kind::Task(place))));
    }
    claims.into_iter().filter(|(name, _)| is_askable(name)).collect()
}

/// What a task is called where it is named: its first name that can be asked for and is not its service's.
fn host_of(service: &Service, backend: &Backend) -> Arc<str> {
    let names = [&backend.task].into_iter().chain(&backend.names);
    let of_service = |name: &str| {
        let mut taken = [&service.name].into_iter().chain(&service.naming.aliases);
        taken.any(|taken| taken.eq_ignore_ascii_case(name))
    };
    names
        .map(|name| lower(name))
        .find(|name| is_askable(name) && !of_service(name))
        .unwrap_or_else(|| made_askable(&backend.task))
}

/// Whether somebody could ask for it: what a query's name is made of (see [`dns::Directory`]), in labels of its length.
fn is_askable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    name.len() <= 253 && name.split('.').all(label)
}

/// `node1/172.18.0.2` is `node1-172-18-0-2`.
fn made_askable(name: &str) -> Arc<str> {
    let keep = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' | '_' => c,
        _ => '-',
    };
    let mut made: String = name.to_ascii_lowercase().chars().map(keep).collect();
    made.truncate(63);
    made.into()
}

fn lower(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}
