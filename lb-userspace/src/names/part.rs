//! What one service gives to the picture: made once, and shared by every answer until the service changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dns::{Entry, Host, Pointer, Port, Target, Transport, Zone};

use crate::model::{Backend, Exposed, Naming, Protocol, Service, Standing};

/// A service with all that is answered about it as a whole; what is asked about a task alone is said when it is asked.
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
    /// Everything it is called.
    pub claims: Box<[(Arc<str>, Kind)]>,
    /// Whether its hosts have names in the Kubernetes zone.
    cluster: bool,
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

impl Part {
    /// `cluster`: whether there is a Kubernetes zone.
    pub fn new(service: &Arc<Service>, cluster: bool) -> Self {
        let naming = &service.naming;
        let nothing = Forms {
            domain: Arc::default(),
            cluster: None,
        };
        let mut part = Self {
            networks: naming.networks.iter().map(|network| lower(network)).collect(),
            stack: naming.stack.as_deref().map(lower),
            public: naming.networks.iter().any(|network| **network == *Naming::PUBLIC),
            whole: nothing.clone(),
            tasks: nothing,
            claims: claims(service),
            cluster: cluster && naming.stack.is_some(),
            service: Arc::clone(service),
        };
        part.tasks = part.of_tasks(&chosen(&service.backends));
        part.whole = part.of_vips().unwrap_or_else(|| part.tasks.clone());
        part
    }

    /// What the name of one task leads to.
    pub fn task(&self, place: usize) -> Forms {
        let backend = &self.service.backends[place];
        match backend.standing {
            Standing::Active | Standing::Warming => self.of_tasks(&[backend]),
            Standing::Draining | Standing::Unhealthy => self.of_tasks(&[]),
        }
    }

    /// Whether its own name is one that somebody could ask for.
    pub fn can_be_asked_for(&self) -> bool {
        is_askable(&lower(&self.service.name))
    }

    /// What the addresses of a task, or the VIPs, are called.
    pub fn pointer(&self, task: Option<usize>) -> Option<Pointer> {
        let task = task.map(|place| &self.service.backends[place]);
        Some(Pointer {
            host: self.host(task, Zone::Domain)?,
            ttl: self.service.naming.ttl,
        })
    }

    /// Where a task, or the service, is found. `None` where it could not be asked for.
    fn host(&self, task: Option<&Backend>, zone: Zone) -> Option<Host> {
        let name = match task {
            None => lower(&self.service.name),
            Some(backend) => host_of(&self.service, backend),
        };
        let name: Arc<str> = match (zone, task, self.stack.as_deref()) {
            (Zone::Domain, ..) | (Zone::Cluster, _, None) => name,
            (Zone::Cluster, None, Some(stack)) => format!("{name}.{stack}.svc").into(),
            (Zone::Cluster, Some(_), Some(stack)) => {
                format!("{name}.{}.{stack}.svc", lower(&self.service.name)).into()
            }
        };
        is_askable(&name).then(|| Host::new(zone, &name).ok())?
    }

    fn of_tasks(&self, tasks: &[&Backend]) -> Forms {
        let target = |zone, port, backend: &Backend| {
            Some(Target {
                priority: 0,
                weight: backend.weight,
                port,
                host: self.host(Some(backend), zone)?,
                addresses: backend.addresses.as_slice().into(),
            })
        };
        self.forms(|zone| {
            let addresses = tasks.iter().flat_map(|backend| &backend.addresses);
            entry(&self.service, addresses, |exposed| {
                let targets = tasks
                    .iter()
                    .filter_map(|backend| target(zone, exposed.port, backend));
                targets.collect()
            })
        })
    }

    /// What leads to the VIPs; `None` where the name leads to the tasks.
    fn of_vips(&self) -> Option<Forms> {
        let service = &self.service;
        let vips: Vec<IpAddr> = service.named_vips().collect();
        if vips.is_empty() {
            return None;
        }
        // One record names all VIPs, so the port has to be the same at each.
        let port = |exposed: &Exposed| {
            let mut ports = vips.iter().map(|vip| service.port_at(*vip, exposed));
            let first = ports.next()??;
            ports.all(|port| port == Some(first)).then_some(first)
        };
        let target = |zone, exposed: &Exposed| {
            Some(Target {
                priority: 0,
                weight: 1,
                port: port(exposed)?,
                host: self.host(None, zone)?,
                addresses: vips.as_slice().into(),
            })
        };
        Some(self.forms(|zone| {
            entry(service, &vips, |exposed| {
                target(zone, exposed).into_iter().collect()
            })
        }))
    }

    /// Where no port has a name there is no host in it, and one form does for both zones.
    fn forms(&self, entry: impl Fn(Zone) -> Arc<Entry>) -> Forms {
        let domain = entry(Zone::Domain);
        let differs = self.cluster && !domain.ports.is_empty();
        Forms {
            domain,
            cluster: differs.then(|| entry(Zone::Cluster)),
        }
    }
}

fn entry<'a>(
    service: &Service,
    addresses: impl IntoIterator<Item = &'a IpAddr>,
    targets: impl Fn(&Exposed) -> Vec<Target>,
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
            targets: targets(exposed).into(),
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
fn chosen(backends: &[Backend]) -> Vec<&Backend> {
    let standing = |wanted| {
        let backends = backends.iter().filter(move |backend| backend.standing == wanted);
        backends.collect::<Vec<_>>()
    };
    let active = standing(Standing::Active);
    match active.is_empty() {
        true => standing(Standing::Warming),
        false => active,
    }
}

fn claims(service: &Service) -> Box<[(Arc<str>, Kind)]> {
    let aliases = service.naming.aliases.iter();
    let mut claims: BTreeSet<_> = aliases.map(|alias| (lower(alias), Kind::Alias)).collect();
    claims.insert((lower(&service.name), Kind::Service));
    for (place, backend) in service.backends.iter().enumerate() {
        let names = backend.names.iter().chain([&backend.task]);
        claims.extend(names.map(|name| (lower(name), Kind::Task(place))));
        claims.insert((host_of(service, backend), Kind::Task(place)));
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
