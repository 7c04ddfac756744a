//! Drain marks of objects that no source names: kept for a day, for an object may come back, and then forgotten.

use std::collections::BTreeMap;

use crate::model::Desired;
use crate::model::marks::{DAY, DrainMark, DrainObject, Drains};

/// Times are milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Unnamed {
    now: u64,
    /// Since when objects with a mark have been seen without a name.
    since: BTreeMap<DrainObject, u64>,
}

impl Unnamed {
    /// Whether the mark is of an object that is not named, and a day old. Agents forget at different times: one that has
    /// forgotten must not hear it again from one that has not.
    pub fn is_stale(&self, mark: &DrainMark, desired: &Desired) -> bool {
        is_old(mark, self.now) && !is_named(&mark.object, desired)
    }

    /// Forgets what has not been named for a day. To be called now and then, with what all sources want.
    pub fn forget(&mut self, now: u64, drains: &mut Drains, desired: &Desired) {
        self.now = now;
        let mut before = std::mem::take(&mut self.since);
        let unnamed: Vec<DrainMark> = drains
            .iter()
            .filter(|mark| !is_named(&mark.object, desired))
            .collect();
        for mark in unnamed {
            let since = before.remove(&mark.object).unwrap_or(now);
            if is_old(&mark, now) && since.saturating_add(DAY) <= now {
                drains.forget(&mark.object);
            } else {
                self.since.insert(mark.object, since);
            }
        }
    }
}

fn is_old(mark: &DrainMark, now: u64) -> bool {
    mark.stamp.saturating_add(DAY) <= now
}

fn is_named(object: &DrainObject, desired: &Desired) -> bool {
    match object {
        DrainObject::Node(node) => desired.nodes.contains_key(node),
        DrainObject::Backend { service, task } => desired
            .services
            .get(service)
            .is_some_and(|service| service.backends.iter().any(|backend| backend.task == *task)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{backend, web};

    fn mark(task: &str, stamp: u64) -> DrainMark {
        DrainMark {
            object: DrainObject::Backend {
                service: "web".into(),
                task: task.into(),
            },
            drained: true,
            stamp,
        }
    }

    #[test]
    fn a_mark_is_forgotten_when_nobody_has_named_its_object_for_a_day() {
        let desired = web(vec![backend("web.1", "node1")]);
        let (mut unnamed, mut drains) = (Unnamed::default(), Drains::default());
        for mark in [mark("web.1", 1), mark("web.2", 1)] {
            drains.learn(mark);
        }
        // Named for a while and then no more: the day begins anew.
        let both = web(vec![backend("web.1", "node1"), backend("web.2", "node1")]);
        unnamed.forget(2, &mut drains, &desired);
        unnamed.forget(DAY, &mut drains, &both);
        unnamed.forget(DAY + 1, &mut drains, &desired);
        unnamed.forget(2 * DAY, &mut drains, &desired);
        assert_eq!(drains.iter().count(), 2);
        unnamed.forget(2 * DAY + 1, &mut drains, &desired);
        assert!(drains.iter().eq([mark("web.1", 1)]));
    }

    #[test]
    fn an_old_mark_of_nothing_is_not_learned_again_and_a_new_one_is() {
        let desired = web(vec![backend("web.1", "node1")]);
        let mut unnamed = Unnamed::default();
        unnamed.forget(DAY + 1, &mut Drains::default(), &desired);
        assert!(unnamed.is_stale(&mark("web.2", 1), &desired));
        assert!(!unnamed.is_stale(&mark("web.2", 2), &desired));
        assert!(!unnamed.is_stale(&mark("web.1", 1), &desired));
    }
}
