//! What changed between two snapshots: all that a plane has to carry out.

use std::collections::btree_map;
use std::iter::Peekable;
use std::sync::Arc;

use super::{Family, Pool, Service, Snapshot};

/// The differences. Nodes are not among them: what a plane writes of them depends on the ways that the machine has to them.
#[derive(Debug, Default)]
pub struct Diff {
    /// Pools that are new or not as they were, in their order.
    pub changed: Vec<Change>,
    /// Ids of pools that are gone.
    pub gone: Vec<u64>,
}

/// A pool that is not shown yet, and the service it belongs to.
#[derive(Clone, Debug)]
pub struct Change {
    pub pool: Arc<Pool>,
    pub service: Option<Arc<Service>>,
}

impl Diff {
    /// Both snapshots are in one order, and what they share is known by its address: nothing else is read of it, unless
    /// something else `turns` the pool, as a node that is suspected does to all with members there.
    pub fn between(before: &Snapshot, after: &Snapshot, turns: impl Fn(&Pool) -> bool) -> Self {
        let mut old_services = before.services.iter().peekable();
        let mut new_services = after.services.iter().peekable();
        let mut old_pools = before.pools.iter().peekable();
        let mut diff = Self::default();
        for pool in &after.pools {
            let service = named(&mut new_services, &pool.service);
            let old_service = named(&mut old_services, &pool.service);
            while let Some(old) = old_pools.next_if(|old| key(old) < key(pool)) {
                diff.gone.push(old.id);
            }
            let old = old_pools.next_if(|old| Arc::ptr_eq(old, pool) || key(old) == key(pool));
            let same = old.is_some_and(|old| Arc::ptr_eq(old, pool))
                && service.map(Arc::as_ptr) == old_service.map(Arc::as_ptr);
            if !same || turns(pool) {
                diff.changed.push(Change {
                    pool: Arc::clone(pool),
                    service: service.cloned(),
                });
            }
        }
        diff.gone.extend(old_pools.map(|old| old.id));
        diff
    }
}

type Services<'s> = Peekable<btree_map::Iter<'s, Arc<str>, Arc<Service>>>;

/// The service of this name, from services that are asked for in their order.
fn named<'s>(services: &mut Services<'s>, name: &Arc<str>) -> Option<&'s Arc<Service>> {
    while services
        .next_if(|&(other, _)| !Arc::ptr_eq(other, name) && **other < **name)
        .is_some()
    {}
    services
        .peek()
        .filter(|&&(other, _)| other == name)
        .map(|&(_, service)| service)
}

/// The order of pools in a snapshot.
pub fn key(pool: &Pool) -> (&str, u16, Family) {
    (&pool.service, pool.target_port, pool.family)
}

#[cfg(test)]
mod tests;
