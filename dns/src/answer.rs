//! Answers from the directory: which records, or which kind of nothing.

mod zone;

use std::net::IpAddr;
use std::sync::Arc;

use hickory_server::proto::op::{Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, HINFO, PTR, SRV, TXT};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::config::Config;
use crate::directory::{Directory, Entry, Lookup, Port, Reverse, Zone};
use crate::forward::{Forwarder, TOP, token};
use crate::name::{
    Grammar, Place, Service, Special, Text, is_private, local_reverse, readings, service_of, special,
};
use zone::Zones;

/// What is said, without the form it takes on the wire.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Option<Record>,
    /// Left out where there is no room, without a word.
    pub(crate) additionals: Vec<Record>,
}

impl Reply {
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// What the directory has at a name.
enum Finding {
    Found(Arc<Entry>),
    Hidden,
    Unknown,
}

/// Answers for the names of a directory.
pub(crate) struct Names {
    directory: Arc<dyn Directory>,
    /// Hears of its probes that come back.
    forwarder: Arc<Forwarder>,
    grammar: Grammar,
    zones: Zones,
    /// Domains that have upstreams of their own, lower-case.
    routed: Box<[Box<str>]>,
    single_labels: bool,
}

impl Names {
    pub(crate) fn new(
        config: &Config,
        grammar: Grammar,
        directory: Arc<dyn Directory>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        let routed = config.forward.domains.iter();
        Self {
            directory,
            forwarder,
            zones: Zones::new(config, &grammar),
            grammar,
            routed: routed
                .map(|(domain, _)| domain.trim_matches('.').to_ascii_lowercase().into())
                .collect(),
            single_labels: config.forward.single_labels,
        }
    }

    /// The top-level domain in which upstreams are probed: one that lies in no zone of ours.
    pub(crate) fn probed(&self) -> Name {
        let is_apart = |top: &&str| matches!(self.grammar.place(top), Place::Elsewhere);
        zone::absolute(TOP.into_iter().find(is_apart).unwrap_or_default())
    }

    /// Whether nothing is to be denied this client yet.
    pub(crate) fn is_new(&self, client: IpAddr) -> bool {
        self.directory.is_new(client)
    }

    /// `None`: the name is not one of ours.
    pub(crate) fn answer(&self, query: &Query, client: IpAddr) -> Option<Reply> {
        if query.query_class() != DNSClass::IN {
            // CHAOS `version.bind` among them: what runs here is nobody's business.
            return Some(Reply::code(ResponseCode::Refused));
        }
        match query.query_type() {
            RecordType::AXFR | RecordType::IXFR => return Some(Reply::code(ResponseCode::Refused)),
            RecordType::ANY => {}
            // A question for OPT or TSIG asks for nothing (RFC 6891 §6.1.1, RFC 8945 §4.2); 128 to 254 are questions we
            // do not know (RFC 6895 §3.1).
            RecordType::OPT | RecordType::TSIG => return Some(Reply::code(ResponseCode::FormErr)),
            other if (128..=254).contains(&u16::from(other)) => {
                return Some(Reply::code(ResponseCode::NotImp));
            }
            _ => {}
        }
        let text = Text::new(query.name());
        let name = text.as_str();
        match self.grammar.place(name) {
            Place::Apex(zone) => Some(self.apex(query, zone)),
            Place::Within { zone, relative } => Some(self.within(query, client, zone, relative)),
            Place::Address(address) => self.reverse(query, client, address),
            Place::Elsewhere => self.elsewhere(query, client, name),
        }
    }

    fn apex(&self, query: &Query, zone: Zone) -> Reply {
        let owner = query.name();
        let rdata = match query.query_type() {
            RecordType::SOA => return self.found(vec![self.zones.soa(owner.clone(), self.serial())]),
            RecordType::NS => RData::NS(self.zones.server_name(zone)),
            RecordType::ANY => minimal(),
            _ => return self.nodata(query, Some(zone)),
        };
        let mut reply = self.found(vec![Record::from_rdata(owner.clone(), self.zones.ttl(), rdata)]);
        if query.query_type() == RecordType::NS {
            reply.additionals = self.zones.glue(zone);
        }
        reply
    }

    /// A name below one of our zones: whatever becomes of it, nobody else is asked.
    fn within(&self, query: &Query, client: IpAddr, zone: Zone, relative: &str) -> Reply {
        let (service, owner) = service_of(relative);
        match self.find(client, zone, owner) {
            Finding::Found(entry) => self.entry(query, Some(zone), &entry, service),
            // As a name of its own it does not exist for this client, but there may be others below it (RFC 8020).
            Finding::Hidden if service.is_none() && self.directory.encloses(client, zone, relative) => {
                self.nodata(query, Some(zone))
            }
            Finding::Hidden => self.nxdomain(query, Some(zone)),
            Finding::Unknown => {
                if let Some(records) = self.zones.fixed(query, zone, relative) {
                    return match records.is_empty() {
                        true => self.nodata(query, Some(zone)),
                        false => self.found(records),
                    };
                }
                if !self.directory.ready() {
                    return Reply::code(ResponseCode::ServFail);
                }
                let exists = service.is_none() && self.directory.encloses(client, zone, relative);
                match exists {
                    true => self.nodata(query, Some(zone)),
                    false => self.nxdomain(query, Some(zone)),
                }
            }
        }
    }

    fn elsewhere(&self, query: &Query, client: IpAddr, name: &str) -> Option<Reply> {
        // Those of other servers are passed on as any name: the loop may lead through us.
        if token(name).is_some_and(|token| self.forwarder.came_back(token)) {
            return Some(self.nxdomain(query, None));
        }
        let special = special(name).filter(|_| !self.is_routed(name));
        if special == Some(Special::Localhost) {
            return Some(self.localhost(query));
        }
        for unqualified in self.grammar.unqualified(name) {
            // A whole name that a resolver has tried with its search list: `web.portico.internal.corp.example`.
            match self.grammar.place(unqualified) {
                Place::Apex(zone) => return Some(self.apex(query, zone)),
                Place::Within { zone, relative } => return Some(self.within(query, client, zone, relative)),
                Place::Address(_) | Place::Elsewhere => {}
            }
            let (service, owner) = service_of(unqualified);
            match self.find(client, Zone::Domain, owner) {
                Finding::Found(entry) => return Some(self.entry(query, None, &entry, service)),
                Finding::Hidden => return Some(self.nxdomain(query, None)),
                Finding::Unknown => {}
            }
        }
        match special {
            Some(Special::Nothing { zone }) => {
                Some(self.negative(ResponseCode::NXDomain, zone::absolute(zone)))
            }
            Some(Special::Empty { zone }) => Some(self.negative(ResponseCode::NoError, zone::absolute(zone))),
            _ if !self.directory.ready() && (self.keeps_to_itself(query, name) || self.may_be_ours(name)) => {
                Some(Reply::code(ResponseCode::ServFail))
            }
            _ if self.keeps_to_itself(query, name) => {
                Some(self.negative(ResponseCode::NXDomain, Name::root()))
            }
            _ => None,
        }
    }

    /// Whether a name looks like one of the mesh. `web.front` does not: any name of two labels would.
    fn may_be_ours(&self, name: &str) -> bool {
        let below_search = self.grammar.unqualified(name).nth(1).is_some();
        let (service, _) = service_of(name);
        below_search || service.is_some() || name.starts_with("tasks.") || name.ends_with(".svc")
    }

    /// Whether an unknown name of a single label stays here.
    ///
    /// There are no hosts at the top of the name space (RFC 7085; the root's operators forbid them), so nothing is lost;
    /// but names of services that are not there yet, or not any more, would be told to the upstreams and below them to
    /// the root. `NXDOMAIN` rather than an empty answer, because musl's resolver tries no search domain after an empty
    /// one. A resolver that takes `NXDOMAIN` for the whole subtree (RFC 8020) does so for signed zones, and does not
    /// believe us; and what a resolver asks about top-level domains as such (NS, DS, DNSKEY, SOA) is forwarded.
    fn keeps_to_itself(&self, query: &Query, name: &str) -> bool {
        let for_hosts = matches!(
            query.query_type(),
            RecordType::A
                | RecordType::AAAA
                | RecordType::HTTPS
                | RecordType::SVCB
                | RecordType::MX
                | RecordType::SRV
                | RecordType::TXT
                | RecordType::ANY
        );
        for_hosts && !self.single_labels && !name.is_empty() && !name.contains('.') && !self.is_routed(name)
    }

    fn is_routed(&self, name: &str) -> bool {
        self.routed
            .iter()
            .any(|domain| name == &**domain || crate::name::below(name, domain).is_some())
    }

    fn find(&self, client: IpAddr, zone: Zone, name: &str) -> Finding {
        for subject in readings(zone, name) {
            match self.directory.lookup(client, subject) {
                Lookup::Found(entry) => return Finding::Found(entry),
                Lookup::Hidden => return Finding::Hidden,
                Lookup::Unknown => {}
            }
        }
        Finding::Unknown
    }

    fn entry(&self, query: &Query, zone: Option<Zone>, entry: &Entry, service: Option<Service<'_>>) -> Reply {
        let owner = query.name();
        let ttl = entry.ttl;
        let port = match service {
            None => None,
            Some(Service::Protocol) => return self.nodata(query, zone),
            Some(Service::Port { name, protocol }) => {
                let mut ports = entry.ports.iter();
                match ports.find(|port| port.protocol == protocol && *port.name == *name) {
                    Some(port) => Some(port),
                    None => return self.nxdomain(query, zone),
                }
            }
        };
        let mut reply = self.found(match (query.query_type(), port) {
            (RecordType::A, None) => addresses(owner, ttl, &entry.v4, |address| RData::A(A(address))),
            (RecordType::AAAA, None) => {
                addresses(owner, ttl, &entry.v6, |address| RData::AAAA(AAAA(address)))
            }
            (RecordType::SRV, Some(port)) => self.servers(owner, ttl, port),
            (RecordType::ANY, _) => vec![Record::from_rdata(owner.clone(), ttl, minimal())],
            _ => Vec::new(),
        });
        if reply.answers.is_empty() {
            return self.nodata(query, zone);
        }
        if let (RecordType::SRV, Some(port)) = (query.query_type(), port) {
            reply.additionals = self.zones.addresses(port, ttl);
        }
        reply
    }

    fn servers(&self, owner: &Name, ttl: u32, port: &Port) -> Vec<Record> {
        let mut records: Vec<_> = port
            .targets
            .iter()
            .map(|target| {
                let host = self.zones.host(&target.host);
                let rdata = SRV::new(target.priority, target.weight, target.port, host);
                Record::from_rdata(owner.clone(), ttl, RData::SRV(rdata))
            })
            .collect();
        fastrand::shuffle(&mut records);
        records
    }

    fn reverse(&self, query: &Query, client: IpAddr, address: IpAddr) -> Option<Reply> {
        Some(match self.directory.reverse(client, address) {
            Reverse::Found(pointer) => match query.query_type() {
                RecordType::PTR => {
                    let rdata = RData::PTR(PTR(self.zones.host(&pointer.host)));
                    self.found(vec![Record::from_rdata(query.name().clone(), pointer.ttl, rdata)])
                }
                RecordType::ANY => self.found(vec![Record::from_rdata(
                    query.name().clone(),
                    pointer.ttl,
                    minimal(),
                )]),
                _ => self.nodata(query, None),
            },
            Reverse::Hidden => self.nxdomain(query, None),
            Reverse::Unknown if address.is_loopback() && query.query_type() == RecordType::PTR => {
                let rdata = RData::PTR(PTR(zone::absolute("localhost")));
                self.found(vec![Record::from_rdata(
                    query.name().clone(),
                    self.zones.ttl(),
                    rdata,
                )])
            }
            Reverse::Unknown if local_reverse(address) => self.nxdomain(query, None),
            Reverse::Unknown if !self.directory.ready() && is_private(address) => {
                Reply::code(ResponseCode::ServFail)
            }
            Reverse::Unknown => return None,
        })
    }

    fn localhost(&self, query: &Query) -> Reply {
        let rdata = match query.query_type() {
            RecordType::A => RData::A(A::new(127, 0, 0, 1)),
            RecordType::AAAA => RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1)),
            RecordType::ANY => minimal(),
            _ => return self.negative(ResponseCode::NoError, zone::absolute("localhost")),
        };
        self.found(vec![Record::from_rdata(
            query.name().clone(),
            self.zones.ttl(),
            rdata,
        )])
    }

    fn found(&self, answers: Vec<Record>) -> Reply {
        Reply {
            authoritative: true,
            answers,
            ..Reply::default()
        }
    }

    /// RFC 2308 §2.2: the name exists, this type does not. A name of the mesh outside our zones is a small zone of its own.
    fn nodata(&self, query: &Query, zone: Option<Zone>) -> Reply {
        let apex = zone.map_or_else(|| query.name().clone(), |zone| self.zones.apex(zone).clone());
        self.negative(ResponseCode::NoError, apex)
    }

    /// RFC 2308 §2.1
    fn nxdomain(&self, query: &Query, zone: Option<Zone>) -> Reply {
        let apex = zone.map_or_else(|| query.name().base_name(), |zone| self.zones.apex(zone).clone());
        self.negative(ResponseCode::NXDomain, apex)
    }

    fn negative(&self, code: ResponseCode, apex: Name) -> Reply {
        Reply {
            code,
            authoritative: true,
            authority: Some(self.zones.soa(apex, self.serial())),
            ..Reply::default()
        }
    }

    fn serial(&self) -> u32 {
        self.directory.serial()
    }
}

/// In random order: a client that takes the first is balanced all the same, and what is cut off a long answer is
/// another part each time.
fn addresses<T: Copy>(owner: &Name, ttl: u32, all: &[T], rdata: impl Fn(T) -> RData) -> Vec<Record> {
    let record = |address: &T| Record::from_rdata(owner.clone(), ttl, rdata(*address));
    if let [one] = all {
        return vec![record(one)];
    }
    let mut shuffled = all.to_vec();
    fastrand::shuffle(&mut shuffled);
    shuffled.iter().map(record).collect()
}

/// What ANY is answered with (RFC 8482 §4.2): small, and nothing to amplify with.
fn minimal() -> RData {
    RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()))
}

/// Version of the Kubernetes names that are served.
fn schema_version() -> RData {
    RData::TXT(TXT::new(vec!["1.1.0".to_owned()]))
}
