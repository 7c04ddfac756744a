//! Connections of agents that ran here before this one and still carry them: counted among this one's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::plane::FlowReport;

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Before(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    next: u64,
    /// Connections by member, of each agent; none before it has counted them.
    agents: BTreeMap<u64, Option<BTreeMap<u64, u64>>>,
}

/// One of them, as long as it is heard.
#[derive(Debug)]
pub struct One {
    before: Before,
    number: u64,
}

impl Before {
    /// One more that may have some.
    pub fn one(&self) -> One {
        let mut books = self.lock();
        books.next += 1;
        let number = books.next;
        books.agents.insert(number, None);
        drop(books);
        One {
            before: self.clone(),
            number,
        }
    }

    /// With theirs. As long as one of them has not counted, there is no count.
    pub fn add_to(&self, mut flows: FlowReport) -> FlowReport {
        for counted in self.lock().agents.values() {
            let Some(counted) = counted else {
                flows.generation = None;
                continue;
            };
            for (tag, count) in counted {
                *flows.members.entry(*tag).or_default() += count;
                flows.established += count;
            }
        }
        flows
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// What it has now, by member of this node.
    pub fn note(&self, members: BTreeMap<u64, u64>) {
        self.before.lock().agents.insert(self.number, Some(members));
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.before.lock().agents.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_agents_before_count_as_long_as_these_are_heard() {
        let own = FlowReport {
            generation: Some(3),
            established: 2,
            closing: 0,
            members: [(7, 2)].into(),
        };
        let before = Before::default();
        assert_eq!(before.add_to(own.clone()), own);
        let (one, other) = (before.one(), before.one());
        one.note([(7, 1), (8, 4)].into());
        assert_eq!(before.add_to(own.clone()).generation, None);
        other.note(BTreeMap::new());
        let all = before.add_to(own.clone());
        assert_eq!((all.generation, all.established), (Some(3), 7));
        assert_eq!(all.members, [(7, 3), (8, 4)].into());
        drop(one);
        assert_eq!(before.add_to(own.clone()), own);
    }
}
