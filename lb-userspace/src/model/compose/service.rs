//! One service: from what is desired of it to how it stands now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::marks::{DrainObject, Marks};
use super::super::pools::{Placing, pools};
use super::super::vips::Vips;
use super::super::warming::{Phase, Track, WARM, WARM_DISPLACED};
use super::super::{
    Backend, DesiredBackend, DesiredService, Family, Identity, Pool, Readiness, Service, Shape, Standing,
};
use super::front;
use super::nodes::Nodes;

/// A service as the last snapshot has it, with the past of its backends.
pub struct Remembered {
    pub service: Arc<Service>,
    pub pools: Vec<Arc<Pool>>,
    /// By task.
    tracks: HashMap<Arc<str>, Track>,
}

/// What a service's backends depend on.
pub struct Surroundings<'c> {
    pub identity: &'c Identity,
    pub nodes: &'c Nodes,
    pub marks: &'c Marks,
    pub vips: &'c Vips,
    /// Nothing came before: those do not warm who were active when this agent started.
    pub first: bool,
    /// Tags of these members; `None` where that is not known and all are taken to have been.
    pub active: Option<&'c HashSet<u64>>,
    /// What pools were like before the first snapshot, by id.
    pub shapes: &'c HashMap<u64, Shape>,
    /// Number of the snapshot that is made.
    pub generation: u64,
    pub now: Instant,
}

impl Surroundings<'_> {
    /// The service as it stands now, sharing with `before` what is the same, and whether anything is not.
    pub fn remember(
        &self,
        name: &Arc<str>,
        desired: &DesiredService,
        before: Option<Remembered>,
    ) -> (Remembered, bool) {
        let known = |task: &str| before.as_ref()?.tracks.get(task).copied();
        let mut stepped: Vec<(Backend, Placing, Track)> = desired
            .backends
            .iter()
            .filter_map(|backend| {
                let past = known(&backend.task).unwrap_or(Track::NEW);
                self.step(name, desired, backend, past)
            })
            .collect();
        stepped.sort_by(|(a, ..), (b, ..)| a.task.cmp(&b.task));
        let tracks = stepped
            .iter()
            .map(|(backend, _, track)| (Arc::clone(&backend.task), *track))
            .collect();
        let (backends, placing): (Vec<Backend>, Vec<Placing>) = stepped
            .into_iter()
            .map(|(backend, placing, _)| (backend, placing))
            .unzip();
        let wanted = Shape {
            slots: desired.slots,
            affinity: desired.affinity,
        };
        let shape = match &before {
            Some(before) => before.service.shape(),
            None => self.found_shape(name, desired).unwrap_or(wanted),
        };
        let front = front::front(self.vips, name, desired, &backends);
        let service = Service {
            name: Arc::clone(name),
            naming: desired.naming.clone(),
            vips: front.vips,
            missed_vips: front.missed_vips,
            assigned: desired.assigned.clone(),
            exposed: desired.exposed.clone(),
            frontends: front.frontends,
            slots: shape.slots,
            affinity: shape.affinity,
            wanted: (shape != wanted).then_some(wanted),
            health: desired.health.clone(),
            proxy: desired.proxy.clone(),
            backends,
        };
        let pools = pools(self.identity, &service, &placing);
        share(service, pools, tracks, before)
    }

    /// A backend on a node that nobody knows is left out: there is no way to it.
    fn step(
        &self,
        service: &Arc<str>,
        desired: &DesiredService,
        backend: &DesiredBackend,
        past: Track,
    ) -> Option<(Backend, Placing, Track)> {
        let node = self.nodes.nodes.get(&backend.node)?;
        let tag = self.identity.backend(service, &backend.task);
        let object = DrainObject::Backend {
            service: Arc::clone(service),
            task: Arc::clone(&backend.task),
        };
        let drained = self.marks.drains.is_drained(&object);
        let draining = backend.readiness == Readiness::Draining || node.draining || drained;
        let unready = match &backend.readiness {
            Readiness::Unready(why) => Some(Arc::clone(why)),
            Readiness::Ready | Readiness::Draining => None,
        };
        let failing = desired.health.is_some() && self.marks.is_unhealthy(&backend.node, tag);
        let warm = match self.nodes.tags.get(&backend.node) {
            _ if self.was_active(service, desired, backend) => Duration::ZERO,
            Some(tag) if tag.displaced => WARM_DISPLACED,
            _ => WARM,
        };
        let track = past.step(
            !draining && !failing && unready.is_none(),
            backend.weight,
            self.now,
            warm,
            self.generation,
        );
        let standing = match track.phase {
            _ if draining => Standing::Draining,
            Phase::Out => Standing::Unhealthy,
            Phase::Warming { .. } => Standing::Warming,
            Phase::Active => Standing::Active,
        };
        let stood = Backend {
            tag,
            task: Arc::clone(&backend.task),
            names: backend.names.clone(),
            node: Arc::clone(&backend.node),
            addresses: backend.addresses.clone(),
            attachments: backend.attachments.clone(),
            weight: backend.weight,
            standing,
            unready,
        };
        Some((
            stood,
            Placing {
                node: node.tag,
                peak: track.peak,
                stamps: backend.stamps,
                seen: track.seen,
            },
            track,
        ))
    }
}

impl Surroundings<'_> {
    /// What the service was like before this agent started: its pools have one shape.
    fn found_shape(&self, service: &str, desired: &DesiredService) -> Option<Shape> {
        let mut pools = target_ports(desired).flat_map(|port| Family::ALL.map(|family| (port, family)));
        // Most often there is nothing, and names need not be hashed to know it.
        if self.shapes.is_empty() {
            return None;
        }
        pools.find_map(|(port, family)| {
            self.shapes
                .get(&self.identity.pool(service, port, family))
                .copied()
        })
    }

    /// Whether it had slots before the first snapshot: then the other nodes know it, too.
    fn was_active(&self, service: &str, desired: &DesiredService, backend: &DesiredBackend) -> bool {
        let had_slots = |active: &HashSet<u64>| {
            let mut members = target_ports(desired).flat_map(|port| Family::ALL.map(|family| (port, family)));
            members.any(|(port, family)| {
                active.contains(&self.identity.member(service, &backend.task, port, family))
            })
        };
        self.first && self.active.is_none_or(had_slots)
    }
}

impl Remembered {
    /// When its next backend has warmed long enough.
    pub fn warm_at(&self) -> Option<Instant> {
        let until = |track: &Track| match track.phase {
            Phase::Warming { until } => Some(until),
            _ => None,
        };
        self.tracks.values().filter_map(until).min()
    }
}

/// Ports of the tasks, some of them more than once.
fn target_ports(desired: &DesiredService) -> impl Iterator<Item = u16> {
    let published = desired.frontends.iter().map(|frontend| frontend.target_port);
    published.chain(desired.exposed.iter().map(|exposed| exposed.port))
}

/// Keeps the former service and pools where the new ones are equal.
fn share(
    service: Service,
    pools: Vec<Pool>,
    tracks: HashMap<Arc<str>, Track>,
    before: Option<Remembered>,
) -> (Remembered, bool) {
    let (former, former_pools) = match before {
        Some(before) => (Some(before.service), before.pools),
        None => (None, Vec::new()),
    };
    let unchanged = former.as_deref() == Some(&service) && former_pools.iter().map(Arc::as_ref).eq(&pools);
    let service = former
        .filter(|former| **former == service)
        .unwrap_or_else(|| Arc::new(service));
    let former_pools: HashMap<u64, Arc<Pool>> = former_pools
        .into_iter()
        .map(|former| (former.id, former))
        .collect();
    let pools = pools
        .into_iter()
        .map(
            |pool| match former_pools.get(&pool.id).filter(|former| ***former == pool) {
                Some(former) => Arc::clone(former),
                None => Arc::new(pool),
            },
        )
        .collect();
    (
        Remembered {
            service,
            pools,
            tracks,
        },
        !unchanged,
    )
}
