//! What exists, and for whom: the one thing an embedding program has to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_server::proto::ProtoError;
use hickory_server::proto::rr::Name;

/// Knows the names. Every query asks it, so answers must be cheap: hash lookups in a picture that is swapped whole, and
/// entries that are shared.
///
/// Every question carries the asking client's address; what that client may see is the directory's business. Names are
/// lower-case, without the zone and without a trailing dot; bytes that no host or service name has are `?` in them.
pub trait Directory: Send + Sync + 'static {
    /// What a name stands for, now. An entry without addresses is the right answer for a service whose tasks are all
    /// gone: the name exists, and nothing stale is said about it.
    fn lookup(&self, client: IpAddr, subject: Subject<'_>) -> Lookup;

    /// Who has an address.
    fn reverse(&self, client: IpAddr, address: IpAddr) -> Reverse;

    /// Whether there are names below this one, which stands for nothing itself: a network, a stack, a Kubernetes
    /// namespace. Such a name exists (RFC 8020), and a resolver told otherwise would forget what is below it.
    fn encloses(&self, client: IpAddr, zone: Zone, name: &str) -> bool {
        let _ = (client, zone, name);
        false
    }

    /// Whether it knows its names by now. Before that, nothing is said about names that could be ours (SERVFAIL); those
    /// of others are forwarded.
    fn ready(&self) -> bool {
        true
    }

    /// Whether this client may be one of whom more will be known in a moment: a container asks for names as soon as it runs,
    /// and whoever tells of it may be a little later. As long as it is, nothing is denied it for up to half a second.
    fn is_new(&self, client: IpAddr) -> bool {
        let _ = client;
        false
    }

    /// Grows with every change (RFC 1982 arithmetic), for the SOA record.
    fn serial(&self) -> u32;
}

/// One way of understanding a name. A query is tried as several of them:
///
/// | name | understood as |
/// |---|---|
/// | `web`, `web.1`, `db.local` | service, container, task or alias of that very name |
/// | `web.front` | `web` within the network or stack `front` |
/// | `tasks.web`, `tasks.web.front` | all tasks of `web` |
/// | `_http._tcp.NAME` | the port `http/tcp` of any of these |
/// | any of these below the domain | the same, and never anybody else's |
/// | any of these below a search domain | the same where it is known; otherwise the whole name is somebody else's |
/// | `[HOST.]web.shop.svc` below the cluster domain | service `web` of the Kubernetes namespace `shop` |
/// | `web.shop.svc` bare | the same where it is known |
/// | `4.3.2.1.in-addr.arpa`, `….ip6.arpa` | the address |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A service, container, task or alias. `scope` narrows it to a network or a stack; both may contain dots.
    Name { name: &'a str, scope: Option<&'a str> },
    /// All tasks of a service, whatever its own name leads to.
    Tasks {
        service: &'a str,
        scope: Option<&'a str>,
    },
    /// `[HOST.]SERVICE.NAMESPACE.svc`
    Kubernetes {
        host: Option<&'a str>,
        service: &'a str,
        namespace: &'a str,
    },
}

#[derive(Clone, Debug)]
pub enum Lookup {
    Found(Arc<Entry>),
    /// The name is one of the mesh, and this client may not see it: it does not exist for it, and is not asked for
    /// elsewhere either.
    Hidden,
    Unknown,
}

#[derive(Clone, Debug)]
pub enum Reverse {
    Found(Arc<Pointer>),
    /// The address is one of the mesh, without a name that this client may see.
    Hidden,
    Unknown,
}

/// The zones that are answered with authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Zone {
    /// The mesh's own domain.
    Domain,
    /// The Kubernetes cluster domain.
    Cluster,
}

/// What there is at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Seconds.
    pub ttl: u32,
    pub v4: Box<[Ipv4Addr]>,
    pub v6: Box<[Ipv6Addr]>,
    pub ports: Box<[Port]>,
}

/// `_NAME._PROTOCOL` below a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Lower-case, without the underscore.
    pub name: Box<str>,
    pub protocol: Transport,
    pub targets: Box<[Target]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// One SRV record, with the addresses that spare the client a second question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub host: Host,
    pub addresses: Box<[IpAddr]>,
}

/// A name within a zone, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub(crate) zone: Zone,
    pub(crate) relative: Name,
}

impl Host {
    /// `name` is relative to the zone; it should lead to the same place when it is asked for.
    ///
    /// # Errors
    /// A label is empty or longer than 63 bytes, or the whole is longer than a name may be.
    pub fn new(zone: Zone, name: &str) -> Result<Self, ProtoError> {
        let mut relative = Name::from_labels(name.split('.').map(str::as_bytes))?;
        relative.set_fqdn(false);
        Ok(Self { zone, relative })
    }
}

/// What a PTR record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub host: Host,
    /// Seconds.
    pub ttl: u32,
}
