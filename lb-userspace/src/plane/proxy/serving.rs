//! At which frontends the plane listens: at those that it is given, and beside packet programs a while longer. A client that waits
//! to be accepted when packet programs take over is not sent away.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::fronts::{Bind, Fronts};

/// Nobody waits longer than this to be accepted.
const LINGER: Duration = Duration::from_secs(5);

/// When it was last said of each frontend that the proxy serves it.
#[derive(Debug, Default)]
pub struct Served(HashMap<Bind, Instant>);

impl Served {
    /// Where an agent before this one has.
    pub fn lately(binds: impl Iterator<Item = Bind>, now: Instant) -> Self {
        Self(binds.map(|bind| (bind, now)).collect())
    }

    /// What is served now; what was served lately, if it is still a frontend; and what `is_own` says of the addresses that
    /// packets for have no other way.
    pub fn listening(
        &mut self,
        fronts: &Fronts,
        is_own: impl Fn(&Bind) -> bool,
        now: Instant,
    ) -> HashSet<Bind> {
        self.0.extend(fronts.served().map(|bind| (bind, now)));
        self.0
            .retain(|bind, last| fronts.get(bind).is_some() && now.duration_since(*last) < LINGER);
        let own = fronts.binds().filter(is_own);
        self.0.keys().copied().chain(own).collect()
    }

    /// Whether it was served lately.
    pub fn has(&self, bind: &Bind) -> bool {
        self.0.contains_key(bind)
    }
}
