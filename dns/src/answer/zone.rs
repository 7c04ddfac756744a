//! What a zone says about itself: SOA, NS, the server's own name.

use std::net::{IpAddr, SocketAddr};

use hickory_server::proto::op::Query;
use hickory_server::proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use super::schema_version;
use crate::config::Config;
use crate::directory::{Host, Port, Zone};
use crate::name::Grammar;

/// Below each apex. Kubernetes' specification asks for this one.
const SERVER: &str = "ns.dns";

pub(super) struct Zones {
    domain: Names,
    cluster: Names,
    /// Where this server is asked.
    addresses: Box<[IpAddr]>,
    ttl: u32,
}

/// Made once: negative answers are many where clients have search lists.
struct Names {
    apex: Name,
    server: Name,
    mailbox: Name,
}

impl Names {
    fn new(apex: &str) -> Self {
        let apex = absolute(apex);
        let below = |relative: &str| {
            let relative = Name::from_labels(relative.split('.').map(str::as_bytes));
            // A zone so long that nothing fits below it stands for it.
            relative
                .and_then(|relative| relative.append_domain(&apex))
                .unwrap_or_else(|_| apex.clone())
        };
        Self {
            server: below(SERVER),
            mailbox: below("hostmaster"),
            apex,
        }
    }
}

impl Zones {
    pub(super) fn new(config: &Config, grammar: &Grammar) -> Self {
        let listen = config.listen.iter().map(SocketAddr::ip);
        Self {
            domain: Names::new(grammar.suffix(Zone::Domain)),
            cluster: Names::new(grammar.suffix(Zone::Cluster)),
            addresses: listen.filter(|address| !address.is_unspecified()).collect(),
            ttl: config.negative_ttl,
        }
    }

    fn names(&self, zone: Zone) -> &Names {
        match zone {
            Zone::Domain => &self.domain,
            Zone::Cluster => &self.cluster,
        }
    }

    pub(super) fn apex(&self, zone: Zone) -> &Name {
        &self.names(zone).apex
    }

    /// Seconds, for everything that the directory gives no TTL for.
    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    pub(super) fn host(&self, host: &Host) -> Name {
        // What does not fit together is no name anybody could ask for: the zone stands for it.
        let apex = self.apex(host.zone);
        host.relative
            .clone()
            .append_domain(apex)
            .unwrap_or_else(|_| apex.clone())
    }

    /// Its TTL is the time that negative answers hold: the smaller of this and the minimum counts (RFC 2308 §5), so both
    /// are the same.
    pub(super) fn soa(&self, apex: Name, serial: u32) -> Record {
        let Names { server, mailbox, .. } = &self.domain;
        // Nobody transfers the zone; refresh, retry and expire are what RFC 1912 §2.2 finds sensible.
        let rdata = SOA::new(
            server.clone(),
            mailbox.clone(),
            serial,
            7200,
            1800,
            1_209_600,
            self.ttl,
        );
        Record::from_rdata(apex, self.ttl, RData::SOA(rdata))
    }

    pub(super) fn server_name(&self, zone: Zone) -> NS {
        NS(self.names(zone).server.clone())
    }

    pub(super) fn glue(&self, zone: Zone) -> Vec<Record> {
        let name = &self.names(zone).server;
        self.addresses
            .iter()
            .map(|address| self.address(name, *address))
            .collect()
    }

    /// Records of names that every zone has; no records where such a name has none of the type; `None` for other names.
    pub(super) fn fixed(&self, query: &Query, zone: Zone, relative: &str) -> Option<Vec<Record>> {
        let owner = query.name();
        match (zone, relative) {
            (_, SERVER) => {
                let records = self.addresses.iter().map(|address| self.address(owner, *address));
                Some(
                    records
                        .filter(|record| record.record_type() == query.query_type())
                        .collect(),
                )
            }
            (Zone::Cluster, "dns-version") => Some(match query.query_type() {
                RecordType::TXT => vec![Record::from_rdata(owner.clone(), self.ttl, schema_version())],
                _ => Vec::new(),
            }),
            (_, "dns") | (Zone::Domain, "tasks") | (Zone::Cluster, "svc") => Some(Vec::new()),
            _ => None,
        }
    }

    /// Addresses of a port's targets, for the additional section.
    pub(super) fn addresses(&self, port: &Port, ttl: u32) -> Vec<Record> {
        let targets = port.targets.iter();
        targets
            .flat_map(|target| {
                let name = self.host(&target.host);
                let addresses = target.addresses.iter();
                addresses.map(move |address| Record::from_rdata(name.clone(), ttl, rdata(*address)))
            })
            .collect()
    }

    fn address(&self, owner: &Name, address: IpAddr) -> Record {
        Record::from_rdata(owner.clone(), self.ttl, rdata(address))
    }
}

fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// Of a name that was validated, or is written here.
pub(super) fn absolute(text: &str) -> Name {
    let mut name = match text {
        "" => Name::root(),
        text => Name::from_labels(text.split('.').map(str::as_bytes)).unwrap_or_default(),
    };
    name.set_fqdn(true);
    name
}
