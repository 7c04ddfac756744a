//! `dns.intercept`: what sockets of other network namespaces ask of their name servers is led to ours. `RESOLVER` says from
//! where to where; without the setting it is empty.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_common::V6;
use lb_common::socket::End;

use super::maps::Table;
use super::tables::mapped;
use crate::config::Dns;
use crate::plane::{EbpfError, SocketReport};

/// Docker's own resolver in every container of a network that somebody made.
const DOCKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// From where to where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    from: Vec<IpAddr>,
    to4: Option<SocketAddr>,
    to6: Option<SocketAddr>,
}

impl Steering {
    /// `upstreams` are those that our own name server asks.
    pub fn new(dns: &Dns, upstreams: &[SocketAddr]) -> Self {
        if !dns.intercept {
            return Self::default();
        }
        let first = |is: fn(&SocketAddr) -> bool| dns.reachable().find(is);
        let upstreams = upstreams.iter().map(SocketAddr::ip);
        Self {
            from: [IpAddr::V4(DOCKER)].into_iter().chain(upstreams).collect(),
            to4: first(SocketAddr::is_ipv4),
            to6: first(SocketAddr::is_ipv6),
        }
    }

    /// Ports of the name server by family, 0 where it has none.
    pub fn ports(&self) -> [u16; 2] {
        [self.to4, self.to6].map(|to| to.map_or(0, |to| to.port()))
    }

    /// Makes the table say this.
    pub fn write(&self, resolvers: &mut Table<V6, End>) -> Result<(), EbpfError> {
        let wanted = self.entries();
        for (address, _) in resolvers.all()? {
            if !wanted.contains_key(&address) {
                resolvers.remove(&address)?;
            }
        }
        for (address, end) in wanted {
            resolvers.set(address, end)?;
        }
        Ok(())
    }

    pub fn report(&self, mut report: SocketReport) -> SocketReport {
        if report.cgroup.is_some() {
            let served = self.from.iter().filter(|from| self.to(**from).is_some());
            report.steered = served.map(ToString::to_string).collect();
        }
        report
    }

    /// What `RESOLVER` shall say.
    pub fn entries(&self) -> HashMap<V6, End> {
        let entry = |&from: &IpAddr| {
            let to = self.to(from)?;
            Some((mapped(from), End::new(mapped(to.ip()), to.port().to_be_bytes())))
        };
        self.from.iter().filter_map(entry).collect()
    }

    /// A socket goes on in its own family.
    fn to(&self, from: IpAddr) -> Option<SocketAddr> {
        if from.is_ipv4() { self.to4 } else { self.to6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steering(intercept: bool) -> Steering {
        let dns = Dns {
            listen: ["127.0.0.1:5353", "169.254.20.10:53", "[::1]:53"]
                .map(|address| address.parse().unwrap())
                .into(),
            intercept,
            ..Dns::default()
        };
        let upstreams = ["192.0.2.53:53", "[2001:db8::53]:53"].map(|address| address.parse().unwrap());
        Steering::new(&dns, &upstreams)
    }

    #[test]
    fn nothing_is_steered_unless_it_is_wanted() {
        assert_eq!(steering(false), Steering::default());
        assert!(steering(false).entries().is_empty());
    }

    #[test]
    fn dockers_resolver_and_the_upstreams_lead_to_the_first_listener_of_their_family_that_is_not_their_own() {
        let steering = steering(true);
        let entries = steering.entries();
        let to = End::new(mapped("169.254.20.10".parse().unwrap()), [0, 53]);
        let from = |address: &str| entries.get(&mapped(address.parse().unwrap())).copied();
        assert_eq!(from("127.0.0.11"), Some(to));
        assert_eq!(from("192.0.2.53"), Some(to));
        assert_eq!(from("2001:db8::53"), None);
        assert_eq!(steering.ports(), [53, 0]);
    }
}
