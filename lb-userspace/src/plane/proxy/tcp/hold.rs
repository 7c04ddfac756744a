//! Clients for whom there is no task right now. Nodes learn of a change one after another, and who is sent away because this
//! one is late is a failed request: so they wait, as a SYN does that the packet programs drop (docs/flow-placement.md).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::plane::proxy::fronts::Bind;

/// How long a client waits, and a frontend's clients from the first on who found nobody. From then on, until somebody is served again,
/// they are told at once.
const HOLD: Duration = Duration::from_secs(10);
/// What was so long ago says nothing about now.
const FORGET: Duration = Duration::from_secs(60);
/// Clients of a worker that wait at a time; each takes a descriptor that others might need.
const CLIENTS: usize = 1024;

/// Of one worker.
pub struct Hold {
    places: Arc<Semaphore>,
    /// Frontends where nobody takes clients.
    missing: RefCell<HashMap<Bind, Missing>>,
}

/// When a client found nobody, for the first time and for the last.
struct Missing {
    since: Instant,
    last: Instant,
}

/// A client's place among those that wait.
pub struct Waiting {
    since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CLIENTS)),
            missing: RefCell::default(),
        }
    }
}

impl Hold {
    /// Somebody takes clients, or the frontend is a new one.
    pub fn over(&self, bind: Bind) {
        self.missing.borrow_mut().remove(&bind);
    }

    /// Whether a client who found nobody shall ask again; it keeps its place until then.
    pub fn may_wait(&self, bind: Bind, place: &mut Option<Waiting>) -> bool {
        let now = Instant::now();
        let anew = Missing {
            since: now,
            last: now,
        };
        let mut missing = self.missing.borrow_mut();
        let missing = missing.entry(bind).or_insert(anew);
        if now >= missing.last + FORGET {
            // Nobody has asked meanwhile: it is not known whether there was somebody.
            missing.since = now;
        }
        missing.last = now;
        if place.is_none() {
            let free = Arc::clone(&self.places).try_acquire_owned().ok();
            *place = free.map(|_place| Waiting { since: now, _place });
        }
        // Others of the frontend may be served all the while.
        let has_time = |since| now < since + HOLD;
        has_time(missing.since) && place.as_ref().is_some_and(|waiting| has_time(waiting.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn bind(port: u16) -> Bind {
        Bind {
            address: ([0, 0, 0, 0], port).into(),
            protocol: Protocol::Tcp,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_wait_until_a_frontend_has_had_nobody_for_long() {
        let hold = Hold::default();
        assert!(hold.may_wait(bind(80), &mut None));
        tokio::time::advance(HOLD - Duration::from_millis(1)).await;
        assert!(hold.may_wait(bind(80), &mut None));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!hold.may_wait(bind(80), &mut None));
        assert!(hold.may_wait(bind(443), &mut None), "another one");
        tokio::time::advance(FORGET).await;
        assert!(hold.may_wait(bind(80), &mut None), "long ago");
        tokio::time::advance(HOLD).await;
        assert!(!hold.may_wait(bind(80), &mut None));
        hold.over(bind(80));
        assert!(hold.may_wait(bind(80), &mut None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_waits_no_longer_though_others_are_served() {
        let hold = Hold::default();
        let (mut first, mut second) = (None, None);
        assert!(hold.may_wait(bind(80), &mut first));
        tokio::time::advance(HOLD / 2).await;
        hold.over(bind(80));
        assert!(hold.may_wait(bind(80), &mut first));
        assert!(hold.may_wait(bind(80), &mut second));
        tokio::time::advance(HOLD / 2).await;
        hold.over(bind(80));
        assert!(!hold.may_wait(bind(80), &mut first));
        assert!(hold.may_wait(bind(80), &mut second), "it has come later");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let hold = Hold::default();
        let mut places: Vec<Option<Waiting>> = (0..CLIENTS).map(|_| None).collect();
        assert!(places.iter_mut().all(|place| hold.may_wait(bind(80), place)));
        let mut last = None;
        assert!(!hold.may_wait(bind(80), &mut last));
        assert!(
            hold.may_wait(bind(80), &mut places[0]),
            "who has a place keeps it"
        );
        places.pop();
        assert!(hold.may_wait(bind(80), &mut last));
    }
}
