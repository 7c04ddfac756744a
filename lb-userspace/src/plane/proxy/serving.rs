//! At which frontends the plane listens: at those that it is given, and beside packet programs a while longer. A client that waits
//! to be accepted when packet programs take over is not sent away. Where there has been no task for a while nobody listens, and
//! the kernel refuses clients.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::fronts::{Bind, Fronts};

/// Nobody waits longer than this to be accepted.
pub const LINGER: Duration = Duration::from_secs(5);

/// So long a service without a task may be one that is being replaced: its clients wait. As in docs/flow-placement.md, rule 4 of
/// the owner.
const EMPTY: Duration = Duration::from_secs(10);

/// What has been of each frontend.
#[derive(Debug, Default)]
pub struct Served {
    /// When it was last said that the proxy serves it.
    last: HashMap<Bind, Instant>,
    /// Since when it has had no task.
    empty: HashMap<Bind, Instant>,
}

impl Served {
    /// Where an agent before this one has.
    pub fn lately(binds: impl Iterator<Item = Bind>, now: Instant) -> Self {
        Self {
            last: binds.map(|bind| (bind, now)).collect(),
            empty: HashMap::new(),
        }
    }

    /// What is served now; what was served lately, if it is still a frontend; and what `is_own` says of the addresses that
    /// packets for have no other way.
    pub fn listening(
        &mut self,
        fronts: &Fronts,
        is_own: impl Fn(&Bind) -> bool,
        now: Instant,
    ) -> HashSet<Bind> {
        self.last.extend(fronts.served().map(|bind| (bind, now)));
        self.last
            .retain(|bind, last| fronts.get(bind).is_some() && now.duration_since(*last) < LINGER);
        let own = fronts.binds().filter(is_own);
        let wanted: HashSet<Bind> = self.last.keys().copied().chain(own).collect();
        let is_empty = |bind: &Bind| fronts.get(bind).is_some_and(|front| front.is_empty());
        self.empty
            .retain(|bind, _| wanted.contains(bind) && is_empty(bind));
        let not_long_empty = |bind: &Bind| {
            !is_empty(bind) || now.duration_since(*self.empty.entry(*bind).or_insert(now)) < EMPTY
        };
        wanted.into_iter().filter(not_long_empty).collect()
    }

    /// Whether it was served lately.
    pub fn has(&self, bind: &Bind) -> bool {
        self.last.contains_key(bind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::fronts::tests::{fronts, snapshot};

    #[test]
    fn where_there_is_no_task_for_long_nobody_listens_until_there_is_one() {
        let (some, none) = (fronts(&snapshot(&["172.18.0.2"])), fronts(&snapshot(&[])));
        let (mut served, start) = (Served::default(), Instant::now());
        let mut listens =
            |fronts: &Fronts, after: Duration| !served.listening(fronts, |_| false, start + after).is_empty();
        assert!(listens(&none, Duration::ZERO));
        assert!(listens(&none, EMPTY - Duration::from_secs(1)));
        assert!(!listens(&none, EMPTY));
        assert!(listens(&some, EMPTY));
        assert!(listens(&none, 5 * EMPTY), "from now on");
        assert!(!listens(&none, 6 * EMPTY));
    }
}
