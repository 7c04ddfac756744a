//! Composes snapshots from what sources want, what is marked, and time. Pure but for the clock it is handed.

mod front;
mod nodes;
mod service;
#[cfg(test)]
mod tests;
mod unnamed;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::marks::{DrainMark, DrainObject, Drains, Marks};
use super::merge::{Conflict, merge};
use super::vips::Vips;
use super::{Agreed, Desired, DesiredService, Identity, Pool, Service, Shape, Snapshot};
use nodes::Nodes;
use service::Remembered;
use unnamed::Unnamed;

/// What a snapshot can change by. Sets are complete: the next one of the same kind and origin replaces them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything a source wants.
    Source {
        source: Arc<str>,
        desired: Arc<Desired>,
    },
    /// Tags of all failing backends of a node, by that node's own checks.
    Health {
        node: Arc<str>,
        unhealthy: BTreeSet<u64>,
    },
    /// All nodes that are silent.
    Suspicion(BTreeSet<Arc<str>>),
    /// All other nodes without packet programs.
    ByProxy(BTreeSet<Arc<str>>),
    Drain(DrainMark),
    /// Milliseconds since 1970: old marks may be forgotten.
    Clock(u64),
}

/// What is left of the time before this agent started.
#[derive(Debug, Default)]
pub struct Past {
    pub drains: Drains,
    /// Tags of the members that had slots in this node's tables. `None`: nothing is known, and all count as members that
    /// had.
    pub active: Option<HashSet<u64>>,
    /// Shapes of the pools in these tables, by pool id.
    pub shapes: HashMap<u64, Shape>,
    /// Other nodes without packet programs, as far as was known.
    pub by_proxy: BTreeSet<Arc<str>>,
}

impl From<Drains> for Past {
    fn from(drains: Drains) -> Self {
        Self {
            drains,
            ..Self::default()
        }
    }
}

/// Remembers what the next snapshot depends on, and recomputes of it only what an event touches.
pub struct Composer {
    identity: Identity,
    /// In the order of the configuration; those that have not spoken yet hold the first snapshot back.
    sources: Vec<(Arc<str>, Option<Arc<Desired>>)>,
    merged: Desired,
    conflicts: Vec<Conflict>,
    vips: Vips,
    marks: Marks,
    unnamed: Unnamed,
    /// [`Past::active`] and [`Past::shapes`], until the first snapshot.
    active: Option<HashSet<u64>>,
    shapes: HashMap<u64, Shape>,
    nodes: Nodes,
    services: BTreeMap<Arc<str>, Remembered>,
    /// The service of each backend.
    owners: HashMap<u64, Arc<str>>,
    /// When services have a backend that has warmed long enough.
    warm: BTreeSet<(Instant, Arc<str>)>,
    stale: Stale,
    generation: u64,
}

/// What must be recomputed.
#[derive(Default)]
struct Stale {
    nodes: bool,
    /// Who takes which VIP.
    vips: bool,
    all: bool,
    guests: bool,
    services: BTreeSet<Arc<str>>,
}

impl Composer {
    /// `sources` are the names of all that will speak.
    pub fn new(
        agreed: impl Into<Agreed>,
        sources: impl IntoIterator<Item = Arc<str>>,
        past: impl Into<Past>,
    ) -> Self {
        let Agreed { identity, pools } = agreed.into();
        let Past {
            drains,
            active,
            shapes,
            by_proxy,
        } = past.into();
        Self {
            identity,
            sources: sources.into_iter().map(|name| (name, None)).collect(),
            merged: Desired::default(),
            conflicts: Vec::new(),
            vips: Vips::new(&pools),
            marks: Marks {
                drains,
                by_proxy,
                ..Marks::default()
            },
            unnamed: Unnamed::default(),
            active,
            shapes,
            nodes: Nodes::default(),
            services: BTreeMap::new(),
            owners: HashMap::new(),
            warm: BTreeSet::new(),
            stale: Stale::default(),
            generation: 0,
        }
    }

    /// Takes an event in; [`compose`](Self::compose) makes the snapshot of all that were taken in.
    pub fn absorb(&mut self, event: Event) {
        match event {
            Event::Source { source, desired } => self.absorb_source(&source, desired),
            Event::Health { node, unhealthy } => self.absorb_health(node, unhealthy),
            Event::Suspicion(silent) => {
                self.stale.nodes |= self.marks.suspected != silent;
                self.marks.suspected = silent;
            }
            Event::ByProxy(nodes) => {
                self.stale.nodes |= self.marks.by_proxy != nodes;
                self.marks.by_proxy = nodes;
            }
            Event::Drain(mark) => {
                if self.unnamed.is_stale(&mark, &self.merged) {
                    return;
                }
                self.stale.nodes |= matches!(mark.object, DrainObject::Node(_));
                self.stale.all |= self.marks.drains.learn(mark);
            }
            // What is forgotten was not in force.
            Event::Clock(now) => {
                self.marks.drains.expire(now);
                if self.have_spoken() {
                    self.unnamed.forget(now, &mut self.marks.drains, &self.merged);
                }
            }
        }
    }

    fn absorb_source(&mut self, source: &Arc<str>, desired: Arc<Desired>) {
        let Some((_, held)) = self.sources.iter_mut().find(|(name, _)| name == source) else {
            return;
        };
        *held = Some(desired);
        let spoken = self
            .sources
            .iter()
            .filter_map(|(name, desired)| Some((name, desired.as_deref()?)));
        let (merged, conflicts) = merge(spoken);
        let before = mem::replace(&mut self.merged, merged);
        self.conflicts = conflicts;
        self.stale.nodes |= before.nodes != self.merged.nodes;
        self.stale.guests |= before.guests != self.merged.guests;
        self.stale.vips |= before.nodes != self.merged.nodes || before.order != self.merged.order;
        for (name, service) in &self.merged.services {
            let former = before.services.get(name);
            if former.is_some_and(|former| Arc::ptr_eq(former, service) || former == service) {
                continue;
            }
            let same_claim = |former: &Arc<DesiredService>| !Vips::differ(former, service);
            self.stale.vips |= !former.is_some_and(same_claim);
            self.stale.services.insert(Arc::clone(name));
        }
        for name in before.services.keys() {
            if !self.merged.services.contains_key(name) {
                self.stale.vips = true;
                self.stale.services.insert(Arc::clone(name));
            }
        }
    }

    fn absorb_health(&mut self, node: Arc<str>, unhealthy: BTreeSet<u64>) {
        let before = self.marks.unhealthy.get(&node);
        let flipped: Vec<u64> = match before {
            Some(before) => before.symmetric_difference(&unhealthy).copied().collect(),
            None => unhealthy.iter().copied().collect(),
        };
        let touched = flipped.iter().filter_map(|tag| self.owners.get(tag)).cloned();
        self.stale.services.extend(touched);
        self.marks.unhealthy.insert(node, unhealthy);
    }

    /// Whether all sources have.
    fn have_spoken(&self) -> bool {
        self.sources.iter().all(|(_, desired)| desired.is_some())
    }

    /// When to compose next although nothing happens: the first warm backend.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.warm.first().map(|(when, _)| *when)
    }

    /// The next snapshot, or nothing where all is as it was or a source is still to be heard for the first time.
    pub fn compose(&mut self, now: Instant) -> Option<Snapshot> {
        if !self.have_spoken() {
            return None;
        }
        while let Some((when, name)) = self.warm.pop_first() {
            if when > now {
                self.warm.insert((when, name));
                break;
            }
            self.stale.services.insert(name);
        }
        let mut stale = mem::take(&mut self.stale);
        if stale.vips {
            stale
                .services
                .extend(self.vips.renew(&self.identity, &self.merged));
        }
        let mut changed = self.generation == 0 || stale.guests;
        let mut all = stale.all || self.generation == 0;
        if stale.nodes || self.generation == 0 {
            let next = nodes::stand(&self.identity, &self.merged.nodes, &self.marks);
            changed |= next.nodes != self.nodes.nodes;
            all |= !next.same_for_backends(&self.nodes);
            self.nodes = next;
        }
        let names: Vec<Arc<str>> = if all {
            self.services
                .keys()
                .chain(self.merged.services.keys())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .cloned()
                .collect()
        } else {
            stale.services.into_iter().collect()
        };
        for name in names {
            changed |= self.rebuild_service(&name, now);
        }
        if !changed {
            return None;
        }
        self.generation += 1;
        self.active = None;
        self.shapes = HashMap::new();
        Some(self.snapshot())
    }

    /// Tells whether the service or one of its pools changed.
    fn rebuild_service(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let before = self.services.remove(name);
        for backend in before.iter().flat_map(|before| &before.service.backends) {
            self.owners.remove(&backend.tag);
        }
        let Some(desired) = self.merged.services.get(name) else {
            return before.is_some();
        };
        let surroundings = service::Surroundings {
            identity: &self.identity,
            nodes: &self.nodes,
            marks: &self.marks,
            vips: &self.vips,
            first: self.generation == 0,
            active: self.active.as_ref(),
            shapes: &self.shapes,
            generation: self.generation + 1,
            now,
        };
        let (next, changed) = surroundings.remember(name, desired, before);
        self.owners.extend(
            next.service
                .backends
                .iter()
                .map(|backend| (backend.tag, Arc::clone(name))),
        );
        if let Some(when) = next.warm_at() {
            self.warm.insert((when, Arc::clone(name)));
        }
        self.services.insert(Arc::clone(name), next);
        changed
    }

    fn snapshot(&self) -> Snapshot {
        let services: BTreeMap<Arc<str>, Arc<Service>> = self
            .services
            .iter()
            .map(|(name, remembered)| (Arc::clone(name), Arc::clone(&remembered.service)))
            .collect();
        let pools: Vec<Arc<Pool>> = self
            .services
            .values()
            .flat_map(|remembered| &remembered.pools)
            .cloned()
            .collect();
        Snapshot {
            generation: self.generation,
            nodes: self.nodes.nodes.clone(),
            services,
            pools,
            guests: self.merged.guests.clone(),
        }
    }

    /// What later sources wanted and did not get.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    pub fn marks(&self) -> &Marks {
        &self.marks
    }
}
