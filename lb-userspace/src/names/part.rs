//! What one service gives to the picture: made once, and shared by every answer until the service changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use dns::{Entry, Host, Pointer, Port, Target, Transport, Zone};

use super::place::{Frame, Place, addresses};
use crate::model::{Backend, Exposed, Naming, Protocol, Service, Standing};

/// A service with all that is answered about it as a whole; what is asked about a task alone is said when it is asked.
///
/// What it is called stays as it is; what is said may change, as it does when one of its tasks fails. Then nothing else has
/// to be made anew: a service of a thousand tasks has thousands of names.
pub struct Part {
    pub name: Arc<str>,
    /// Lower-case, as everything here that is compared with what clients ask for.
    pub networks: Box<[Arc<str>]>,
    pub stack: Option<Arc<str>>,
    /// Whether everybody sees it.
    pub public: bool,
    /// Everything it is called.
    pub claims: Box<[(Arc<str>, Kind)]>,
    /// This node, and whether there is a Kubernetes zone.
    frame: Arc<Frame>,
    now: ArcSwap<Now>,
}

/// What is said about it.
pub struct Now {
    pub service: Arc<Service>,
    /// Where its name leads, where that is to VIPs.
    vips: Option<Forms>,
    /// Whether where a task is found depends on who asks.
    pub attached: bool,
    /// Its tasks: said first when they are asked for. By this node or, where all have but one place, by anybody; and by
    /// those on each of its networks alone.
    tasks: OnceLock<Forms>,
    on: Box<[OnceLock<Forms>]>,
}

impl Now {
    /// Whether its name leads to VIPs.
    pub const fn leads_to_vips(&self) -> bool {
        self.vips.is_some()
    }
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
    pub fn new(service: &Arc<Service>, frame: &Arc<Frame>) -> Self {
        let naming = &service.naming;
        let part = Self {
            name: Arc::clone(&service.name),
            networks: naming.networks.iter().map(|network| lower(network)).collect(),
            stack: naming.stack.as_deref().map(lower),
            public: naming.networks.iter().any(|network| **network == *Naming::PUBLIC),
            claims: claims(service),
            frame: Arc::clone(frame),
            now: ArcSwap::from_pointee(Now {
                service: Arc::clone(service),
                vips: None,
                attached: false,
                tasks: OnceLock::new(),
                on: Box::default(),
            }),
        };
        part.say(service);
        part
    }

    pub fn now(&self) -> Guard<Arc<Now>> {
        self.now.load()
    }

    /// Says from now on what this is; whether that is all there is to it: the service has the names and addresses it had.
    pub fn change(&self, service: &Arc<Service>) -> bool {
        let same = is_called_the_same(&self.now().service, service);
        if same {
            self.say(service);
        }
        same
    }

    fn say(&self, service: &Arc<Service>) {
        self.now.store(Arc::new(Now {
            vips: self.of_vips(service),
            attached: service.backends.iter().any(|task| !task.attachments.is_empty()),
            tasks: OnceLock::new(),
            on: self.networks.iter().map(|_| OnceLock::new()).collect(),
            service: Arc::clone(service),
        }));
    }

    /// What its name leads to.
    pub fn whole(&self, place: Place<'_>) -> Forms {
        let vips = self.now().vips.clone();
        vips.unwrap_or_else(|| self.tasks(place))
    }

    /// What leads to all of its tasks.
    pub fn tasks(&self, place: Place<'_>) -> Forms {
        let now = self.now();
        let say = || self.of_tasks(&now.service, &chosen(&now.service.backends), place);
        let known = match place {
            _ if !now.attached => Some(&now.tasks),
            Place::Node => Some(&now.tasks),
            Place::On([network]) => self
                .networks
                .iter()
                .position(|known| **known == **network)
                .and_then(|at| now.on.get(at)),
            Place::On(_) => None,
        };
        known.map_or_else(say, |known| known.get_or_init(say).clone())
    }

    /// Whether a network, in lower case, is one of its.
    pub fn has(&self, network: &str) -> bool {
        self.networks.iter().any(|known| **known == *network)
    }

    /// What the name of one task leads to.
    pub fn task(&self, task: usize, place: Place<'_>) -> Forms {
        let service = &self.now().service;
        let backend = &service.backends[task];
        match backend.standing {
            Standing::Active | Standing::Warming => self.of_tasks(service, &[backend], place),
            Standing::Draining | Standing::Unhealthy => self.of_tasks(service, &[], place),
        }
    }

    /// Whether its own name is one that somebody could ask for.
    pub fn can_be_asked_for(&self) -> bool {
        is_askable(&lower(&self.name))
    }

    /// What the addresses of a task, or the VIPs, are called.
    pub fn pointer(&self, task: Option<usize>) -> Option<Pointer> {
        let service = &self.now().service;
        let task = task.map(|place| &service.backends[place]);
        Some(Pointer {
            host: self.host(service, task, Zone::Domain)?,
            ttl: service.naming.ttl,
        })
    }

    /// Where a task, or the service, is found. `None` where it could not be asked for.
    fn host(&self, service: &Service, task: Option<&Backend>, zone: Zone) -> Option<Host> {
        let name = match task {
            None => lower(&service.name),
            Some(backend) => host_of(service, backend),
        };
        let name: Arc<str> = match (zone, task, self.stack.as_deref()) {
            (Zone::Domain, ..) | (Zone::Cluster, _, None) => name,
            (Zone::Cluster, None, Some(stack)) => format!("{name}.{stack}.svc").into(),
            (Zone::Cluster, Some(_), Some(stack)) => {
                format!("{name}.{}.{stack}.svc", lower(&service.name)).into()
            }
        };
        is_askable(&name).then(|| Host::new(zone, &name).ok())?
    }

    fn of_tasks(&self, service: &Service, tasks: &[&Backend], place: Place<'_>) -> Forms {
        let places = tasks.iter().map(|backend| {
            let addresses = addresses(backend, place, &self.frame.node);
            (*backend, addresses)
        });
        // Who is found nowhere from there is no target either.
        let places: Vec<_> = places.filter(|(_, addresses)| !addresses.is_empty()).collect();
        let target = |zone, port, backend: &Backend, addresses: &[IpAddr]| {
            Some(Target {
                priority: 0,
                weight: backend.weight,
                port,
                host: self.host(service, Some(backend), zone)?,
                addresses: addresses.into(),
            })
        };
        self.forms(|zone| {
            let addresses = places.iter().flat_map(|(_, addresses)| addresses);
            entry(service, addresses, |exposed| {
                let targets = places
                    .iter()
                    .filter_map(|(backend, addresses)| target(zone, exposed.port, backend, addresses));
                targets.collect()
            })
        })
    }

    /// What leads to the VIPs; `None` where the name leads to the tasks.
    fn of_vips(&self, service: &Service) -> Option<Forms> {
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
                host: self.host(service, None, zone)?,
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
        let differs = self.frame.cluster && self.stack.is_some() && !domain.ports.is_empty();
        Forms {
            domain,
            cluster: differs.then(|| entry(Zone::Cluster)),
        }
    }
}

/// Whether two pictures of a service differ in what is said about it alone, not in who is called how and where it is.
fn is_called_the_same(one: &Service, other: &Service) -> bool {
    let (a, b) = (&one.naming, &other.naming);
    let same_place = |(a, b): (&Backend, &Backend)| {
        (&a.task, &a.names, &a.node) == (&b.task, &b.names, &b.node)
            && (&a.addresses, &a.attachments) == (&b.addresses, &b.attachments)
    };
    (&a.stack, &a.networks, &a.aliases) == (&b.stack, &b.networks, &b.aliases)
        && (&one.vips, &one.assigned) == (&other.vips, &other.assigned)
        && one.backends.len() == other.backends.len()
        && one.backends.iter().zip(&other.backends).all(same_place)
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

pub fn lower(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}
