//! What has changed between two pictures: names only, so that many steps in a row are as cheap to remember as to merge.
//! What is now under a name is read from the newest picture when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::codec;
use super::wire::difference::Order;
use super::wire::{Backends, Difference, OrderEdit, WholeOrder};
use crate::model::{Desired, DesiredBackend, DesiredService};

/// From one picture to a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    nodes: BTreeSet<Arc<str>>,
    services: BTreeMap<Arc<str>, Touched>,
    order: Reordered,
}

/// What of a service is something else.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Touched {
    Whole,
    /// Backends of these tasks. Before and after, all of them were sorted by task.
    Tasks(BTreeSet<Arc<str>>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reordered {
    #[default]
    No,
    /// As in [`OrderEdit`].
    Edit {
        removed: BTreeSet<Arc<str>>,
        appended: Vec<Arc<str>>,
    },
    Whole,
}

impl Step {
    pub fn between(old: &Desired, new: &Desired) -> Self {
        let removed = old.nodes.keys().filter(|name| !new.nodes.contains_key(*name));
        let changed = new
            .nodes
            .iter()
            .filter(|(name, node)| old.nodes.get(*name) != Some(node));
        let nodes = removed.chain(changed.map(|(name, _)| name)).cloned().collect();

        let removed = old
            .services
            .keys()
            .filter(|name| !new.services.contains_key(*name));
        let mut services: BTreeMap<_, _> = removed.map(|name| (Arc::clone(name), Touched::Whole)).collect();
        for (name, service) in &new.services {
            if let Some(touched) = Touched::between(old.services.get(name), service) {
                services.insert(Arc::clone(name), touched);
            }
        }
        Self {
            nodes,
            services,
            order: Reordered::between(&old.order, &new.order),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty() && self.order == Reordered::No
    }

    /// Names that are remembered.
    pub fn names(&self) -> usize {
        let tasks = self.services.values().map(|touched| match touched {
            Touched::Whole => 1,
            Touched::Tasks(tasks) => 1 + tasks.len(),
        });
        let order = match &self.order {
            Reordered::No | Reordered::Whole => 0,
            Reordered::Edit { removed, appended } => removed.len() + appended.len(),
        };
        self.nodes.len() + tasks.sum::<usize>() + order
    }

    /// This step and then a later one.
    pub fn then(&mut self, later: &Self) {
        self.nodes.extend(later.nodes.iter().cloned());
        for (name, touched) in &later.services {
            match self.services.get_mut(name) {
                None => {
                    self.services.insert(Arc::clone(name), touched.clone());
                }
                Some(known) => known.then(touched),
            }
        }
        self.order.then(&later.order);
    }

    /// For a follower that has generation `since`, when `newest` is where this step leads.
    pub fn message(&self, since: u64, newest: &Desired) -> Difference {
        let mut message = Difference {
            since,
            ..Difference::default()
        };
        for name in &self.nodes {
            match newest.nodes.get(name) {
                Some(node) => message.nodes.push(codec::node(name, node)),
                None => message.removed_nodes.push(name.to_string()),
            }
        }
        for (name, touched) in &self.services {
            match (newest.services.get(name), touched) {
                (Some(service), Touched::Whole) => message.services.push(codec::service(name, service)),
                (Some(service), Touched::Tasks(tasks)) => {
                    message.backends.push(backends(name, service, tasks))
                }
                (None, _) => message.removed_services.push(name.to_string()),
            }
        }
        let strings =
            |names: &mut dyn Iterator<Item = &Arc<str>>| names.map(|name| name.to_string()).collect();
        message.order = match &self.order {
            Reordered::No => None,
            Reordered::Edit { removed, appended } => Some(Order::OrderEdit(OrderEdit {
                removed: strings(&mut removed.iter()),
                appended: strings(&mut appended.iter()),
            })),
            Reordered::Whole => Some(Order::OrderWhole(WholeOrder {
                names: strings(&mut newest.order.iter()),
            })),
        };
        message
    }
}

fn backends(name: &str, service: &DesiredService, tasks: &BTreeSet<Arc<str>>) -> Backends {
    let mut message = Backends {
        service: name.into(),
        ..Backends::default()
    };
    for task in tasks {
        match service
            .backends
            .binary_search_by(|backend| backend.task.cmp(task))
        {
            Ok(at) => message.backends.push(codec::backend(&service.backends[at])),
            Err(_) => message.removed.push(task.to_string()),
        }
    }
    message
}

impl Touched {
    fn between(old: Option<&Arc<DesiredService>>, new: &Arc<DesiredService>) -> Option<Self> {
        let Some(old) = old else { return Some(Self::Whole) };
        if Arc::ptr_eq(old, new) || old == new {
            return None;
        }
        if !same_but_backends(old, new) || !is_sorted(&old.backends) || !is_sorted(&new.backends) {
            return Some(Self::Whole);
        }
        let by_task = |service: &DesiredService| -> BTreeMap<Arc<str>, DesiredBackend> {
            let entries = service.backends.iter();
            entries
                .map(|backend| (Arc::clone(&backend.task), backend.clone()))
                .collect()
        };
        let (old, new) = (by_task(old), by_task(new));
        let removed = old.keys().filter(|task| !new.contains_key(*task));
        let changed = new
            .iter()
            .filter(|(task, backend)| old.get(*task) != Some(backend));
        Some(Self::Tasks(
            removed.chain(changed.map(|(task, _)| task)).cloned().collect(),
        ))
    }

    fn then(&mut self, later: &Self) {
        match (&mut *self, later) {
            (Self::Tasks(tasks), Self::Tasks(more)) => tasks.extend(more.iter().cloned()),
            (Self::Whole, _) => {}
            (_, Self::Whole) => *self = Self::Whole,
        }
    }
}

impl Reordered {
    fn between(old: &[Arc<str>], new: &[Arc<str>]) -> Self {
        if old == new {
            return Self::No;
        }
        let distinct: BTreeSet<_> = new.iter().collect();
        let removed: BTreeSet<_> = old
            .iter()
            .filter(|name| !distinct.contains(name))
            .cloned()
            .collect();
        let kept = old.iter().filter(|name| !removed.contains(*name));
        let count = old.len() - old.iter().filter(|name| removed.contains(*name)).count();
        let begins = new.len() >= count && kept.eq(&new[..count]);
        if !begins || distinct.len() != new.len() {
            return Self::Whole;
        }
        Self::Edit {
            removed,
            appended: new[count..].to_vec(),
        }
    }

    fn then(&mut self, later: &Self) {
        match (&mut *self, later) {
            (_, Self::No) | (Self::Whole, _) => {}
            (Self::No, _) | (_, Self::Whole) => *self = later.clone(),
            (
                Self::Edit { removed, appended },
                Self::Edit {
                    removed: gone,
                    appended: more,
                },
            ) => {
                appended.retain(|name| !gone.contains(name));
                appended.extend(more.iter().cloned());
                removed.extend(gone.iter().cloned());
            }
        }
    }
}

fn same_but_backends(old: &DesiredService, new: &DesiredService) -> bool {
    let DesiredService {
        naming,
        vips,
        assigned,
        exposed,
        frontends,
        slots,
        affinity,
        health,
        proxy,
        backends: _,
    } = old;
    (naming, vips, assigned, exposed) == (&new.naming, &new.vips, &new.assigned, &new.exposed)
        && (frontends, slots, affinity) == (&new.frontends, &new.slots, &new.affinity)
        && (health, proxy) == (&new.health, &new.proxy)
}

/// By task, each once.
fn is_sorted(backends: &[DesiredBackend]) -> bool {
    backends.is_sorted_by(|one, next| one.task < next.task)
}
