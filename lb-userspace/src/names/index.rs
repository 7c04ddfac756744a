//! The picture that is asked: made once for each snapshot, and only what has changed since the one before.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::claims::Claims;
use super::part::{Kind, Part, lower};
use super::place::{Frame, all};
use crate::model::{Service, Snapshot};

/// What exists. Everything in it is found by hash, and nothing is kept of services that are gone.
#[derive(Clone, Default)]
pub struct Index {
    /// What it was made from.
    pub snapshot: Arc<Snapshot>,
    parts: Claims<Arc<str>, Arc<Part>>,
    pub names: Claims<Arc<str>, Claim>,
    /// Names that stand for nothing themselves and have others below them, with the networks in which they do and how
    /// often.
    pub enclosing: Claims<Arc<str>, (Arc<str>, usize)>,
    pub addresses: Claims<IpAddr, Owner>,
    /// Services with a task on this node, by each of the task's addresses.
    pub clients: Claims<IpAddr, Arc<Part>>,
    /// Networks, in lower case, of containers on this node that are tasks of none.
    pub guests: Arc<Guests>,
}

type Guests = HashMap<IpAddr, Arc<[Arc<str>]>>;

/// Somebody who is called so.
#[derive(Clone)]
pub struct Claim {
    pub part: Arc<Part>,
    pub kind: Kind,
}

/// Somebody who has an address.
#[derive(Clone)]
pub struct Owner {
    pub part: Arc<Part>,
    /// Its place among the backends; `None` for a VIP.
    pub task: Option<usize>,
    /// Whether the task runs on this node.
    pub here: bool,
}

impl Index {
    /// The picture of another snapshot. Services that both share cost a comparison of addresses.
    pub fn next(&self, snapshot: &Arc<Snapshot>, frame: &Arc<Frame>) -> Self {
        let mut next = self.clone();
        let mut before = self.snapshot.services.iter().peekable();
        for (name, service) in &snapshot.services {
            while let Some((gone, _)) = before.next_if(|(old, _)| *old < name) {
                next.remove(gone, frame);
            }
            match before.next_if(|(old, _)| *old == name) {
                Some((_, old)) if Arc::ptr_eq(old, service) => {}
                Some(_) if next.change(service) => {}
                Some(_) => {
                    next.remove(name, frame);
                    next.add(service, frame);
                }
                None => next.add(service, frame),
            }
        }
        for (gone, _) in before {
            next.remove(gone, frame);
        }
        if self.snapshot.guests != snapshot.guests {
            let guests = snapshot.guests.iter();
            let lower = |networks: &Arc<[Arc<str>]>| networks.iter().map(|name| lower(name)).collect();
            next.guests = Arc::new(
                guests
                    .map(|(address, networks)| (*address, lower(networks)))
                    .collect(),
            );
        }
        next.snapshot = Arc::clone(snapshot);
        next
    }

    /// The part is shared with the picture before: that says the same from now on.
    fn change(&self, service: &Arc<Service>) -> bool {
        let part = self.parts.get(&service.name).first();
        part.is_some_and(|part| part.change(service))
    }

    fn add(&mut self, service: &Arc<Service>, frame: &Arc<Frame>) {
        let part = Arc::new(Part::new(service, frame));
        for (name, kind) in &part.claims {
            let claim = Claim {
                part: Arc::clone(&part),
                kind: *kind,
            };
            self.names.add(Arc::clone(name), claim);
        }
        for (address, owner) in owners(&part, frame) {
            if owner.here {
                self.clients.add(address, Arc::clone(&part));
            }
            self.addresses.add(address, owner);
        }
        for (name, network) in enclosing(&part) {
            self.enclosing.change(&name, |counts| {
                match counts.iter_mut().find(|(known, _)| **known == *network) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((network, 1)),
                }
            });
        }
        self.parts.add(Arc::clone(&service.name), part);
    }

    fn remove(&mut self, service: &Arc<str>, frame: &Arc<Frame>) {
        let Some(part) = self.parts.get(service).first().cloned() else {
            return;
        };
        self.parts.change(service, Vec::clear);
        for (name, kind) in &part.claims {
            self.names.remove(name, |claim| {
                Arc::ptr_eq(&claim.part, &part) && claim.kind == *kind
            });
        }
        for (address, owner) in owners(&part, frame) {
            if owner.here {
                self.clients.remove(&address, |other| Arc::ptr_eq(other, &part));
            }
            self.addresses.remove(&address, |other| {
                Arc::ptr_eq(&other.part, &part) && other.task == owner.task
            });
        }
        for (name, network) in enclosing(&part) {
            self.enclosing.change(&name, |counts| {
                counts.retain_mut(|(known, count)| {
                    *count -= usize::from(**known == *network);
                    *count > 0
                });
            });
        }
    }
}

fn owners(part: &Arc<Part>, frame: &Arc<Frame>) -> Vec<(IpAddr, Owner)> {
    let owner = |task, here| Owner {
        part: Arc::clone(part),
        task,
        here,
    };
    let service = &part.now().service;
    // Who was led from an assigned address is shown it as his peer's.
    let assigned = service.assigned.iter().map(|vip| IpAddr::V4(*vip));
    let vips = service
        .vips
        .iter()
        .copied()
        .chain(assigned)
        .collect::<BTreeSet<_>>();
    let vips = vips.into_iter().map(|vip| (vip, owner(None, false)));
    let backends = service.backends.iter().enumerate();
    let tasks = backends.flat_map(|(place, backend)| {
        let here = backend.node == frame.node;
        let addresses = all(backend).into_iter();
        addresses.map(move |address| (address, owner(Some(place), here)))
    });
    vips.chain(tasks).collect()
}

/// `1` and `front` of the task `web.1` on the network `front`, with the networks on which they are seen.
fn enclosing(part: &Part) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let mut all = BTreeSet::new();
    let names = part.claims.iter().flat_map(|(name, _)| below(name));
    let stack = part.stack.iter().flat_map(|stack| whole_and_below(stack));
    for name in names.chain(stack) {
        let networks = part.networks.iter();
        all.extend(networks.map(|network| (name.into(), Arc::clone(network))));
    }
    for network in &part.networks {
        all.extend(whole_and_below(network).map(|name| (name.into(), Arc::clone(network))));
    }
    all
}

fn whole_and_below(name: &str) -> impl Iterator<Item = &str> {
    [name].into_iter().chain(below(name))
}

/// What follows each dot.
fn below(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}
