//! What this node's proxy serves although there are packet programs: its frontends are in the tables as all are, so that
//! connections from before go on, and what is new there goes up to its sockets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::placement;
use lb_common::table::pool_flag;

use super::fronts::anywhere;
use super::{Book, Tables};
use crate::model::{Change, Family, Frontend, Member, Pool, Service};
use crate::plane::choice::{Asked, Serving};

/// Where the proxy listens for it: address, port and number of the protocol.
pub(super) fn place(pool: &Pool, frontend: &Frontend) -> (IpAddr, u16, u8) {
    let at = frontend.address.unwrap_or(anywhere(pool.family));
    (at, frontend.port, frontend.protocol.number())
}

/// What a snapshot changes beside what is in it.
#[derive(Debug, Default)]
pub(super) struct Turned {
    /// Tags of nodes that are suspected, or without packet programs, and were not, or the other way round.
    pub nodes: BTreeSet<u16>,
    /// Where the proxy could serve and cannot, or the other way round.
    pub places: BTreeSet<(IpAddr, u16, u8)>,
}

impl Turned {
    /// Whether the pool's tables say so.
    pub fn concerns(&self, pool: &Pool) -> bool {
        let mut nodes = pool.members.iter().map(|member| member.candidate.node);
        let mut places = pool.frontends.iter().map(|frontend| place(pool, frontend));
        !self.nodes.is_empty() && nodes.any(|node| self.nodes.contains(&node))
            || !self.places.is_empty() && places.any(|place| self.places.contains(&place))
    }
}

impl Tables {
    /// Whether the proxy serves this frontend of the pool.
    pub(super) fn is_given(&self, service: &Service, pool: &Pool, frontend: &Frontend) -> bool {
        let choice = self.here.choose(Asked {
            rules: &service.proxy,
            protocol: frontend.protocol,
            family: pool.family,
            // There is no pool in a family that has none.
            has_tasks: true,
        });
        // What packet programs can do as well they do where the proxy cannot serve.
        let spared = self.taken.contains(&place(pool, frontend)) && service.proxy.needs().next().is_none();
        choice.plane == Some(Serving::Proxy) && !spared
    }

    /// Whether the proxy serves any of the pool.
    pub(super) fn is_proxied(&self, pool: &Pool, service: Option<&Service>) -> bool {
        let is_given = |service| {
            pool.frontends
                .iter()
                .any(|front| self.is_given(service, pool, front))
        };
        service.is_some_and(is_given) || self.has_beyond(pool)
    }

    /// Whether the proxy serves the pool beside packet programs, for the tasks that these do not reach.
    pub(super) fn is_shared(&self, pool: &Pool) -> bool {
        self.has_beyond(pool) && !self.writer().is_taken(pool)
    }

    /// Whether the pool has tasks that packets do not reach.
    fn has_beyond(&self, pool: &Pool) -> bool {
        let mut nodes = pool.members.iter().map(|member| member.candidate.node);
        nodes.any(|node| self.by_proxy.contains(&node))
    }

    /// The member that placement gives a slot of the pool.
    pub fn head_of<'p>(&self, pool: &'p Pool, slot: u32) -> Option<&'p Member> {
        let candidates: Vec<_> = pool.members.iter().map(|member| member.candidate).collect();
        let head = placement::head(self.seed, slot, &candidates)?;
        pool.members.get(head)
    }

    /// Ports at which this node's proxy listens for connections; to be said before a snapshot.
    pub fn set_open(&mut self, ports: BTreeSet<(Family, u16)>) {
        self.open = ports;
    }

    /// While the proxy serves any of a pool the node's own sockets are asked first, and after that until none of its
    /// connections is left. A pool that is made where the proxy listens had none while its family had no task.
    pub(super) fn linger(&mut self, book: &Book, change: &Change) {
        let asked = book.entry.flags & pool_flag::HOST_SOCKETS != 0;
        let is_new = book.pool.is_none();
        if (asked || is_new) && !self.is_proxied(&change.pool, change.service.as_deref()) {
            let ports = change.pool.frontends.iter().map(|front| front.port);
            let was_served = |port: &u16| asked || self.open.contains(&(change.pool.family, *port));
            let ports: Vec<u16> = ports.filter(was_served).collect();
            self.connected.extend(ports);
        }
    }
}
