//! Looking at containers one by one, without waiting for any: one that does not answer holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptions;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::ask;
use super::local::short;
use super::problem::Reason;
use crate::source::Note;
use crate::source::backoff::Backoff;

/// Containers that are inspected at a time.
const AT_ONCE: usize = 16;
/// Before one that could not be inspected is inspected again.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// What a container was found to be; `None`: there is none.
pub type Found = Option<Box<ContainerInspectResponse>>;

pub struct Inspector {
    client: Docker,
    places: Arc<Semaphore>,
    running: JoinSet<(Arc<str>, Result<Found, Reason>)>,
    /// Those that are being looked at, and what their answer is worth.
    asked: BTreeMap<Arc<str>, Worth>,
    /// Those that could not be had.
    failed: BTreeMap<Arc<str>, Failed>,
}

enum Worth {
    Good,
    /// Something happened since: it is looked at again.
    Old,
    /// The container is gone.
    None,
}

struct Failed {
    backoff: Backoff,
    due: Instant,
    reason: Reason,
}

impl Inspector {
    pub fn new(client: Docker) -> Self {
        Self {
            client,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
            asked: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Something happened to this container.
    pub fn look(&mut self, id: Arc<str>) {
        if let Some(worth) = self.asked.get_mut(&id) {
            *worth = Worth::Old;
            return;
        }
        self.asked.insert(Arc::clone(&id), Worth::Good);
        let (client, places) = (self.client.clone(), Arc::clone(&self.places));
        self.running.spawn(async move {
            // Never closed.
            let _place = places.acquire_owned().await;
            let answer = inspect(&client, &id).await;
            (id, answer)
        });
    }

    /// What is known of this container may be wrong; one that could not be had has its own time.
    pub fn doubt(&mut self, id: Arc<str>) {
        if !self.failed.contains_key(&id) {
            self.look(id);
        }
    }

    /// The container is gone.
    pub fn forget(&mut self, id: &str) {
        self.failed.remove(id);
        if let Some(worth) = self.asked.get_mut(id) {
            *worth = Worth::None;
        }
    }

    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// When somebody is to be looked at again.
    pub fn due(&self) -> Option<Instant> {
        let idle = self.failed.iter().filter(|(id, _)| !self.asked.contains_key(*id));
        idle.map(|(_, failed)| failed.due).min()
    }

    pub fn try_again(&mut self, now: Instant) {
        let due = self.failed.iter().filter(|(_, failed)| failed.due <= now);
        let due: Vec<Arc<str>> = due.map(|(id, _)| Arc::clone(id)).collect();
        for id in due {
            if !self.asked.contains_key(&id) {
                self.look(id);
            }
        }
    }

    /// The next that were found, all that there are by then; for ever where nobody is looked at.
    pub async fn found(&mut self) -> Result<Vec<(Arc<str>, Found)>, Reason> {
        let Some(first) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        let mut found = Vec::new();
        let mut next = Some(first);
        while let Some(answer) = next {
            // It is never cancelled, nor has it anything to panic of.
            if let Ok((id, answer)) = answer {
                self.take(id, answer, &mut found)?;
            }
            next = self.running.try_join_next();
        }
        Ok(found)
    }

    fn take(
        &mut self,
        id: Arc<str>,
        answer: Result<Found, Reason>,
        found: &mut Vec<(Arc<str>, Found)>,
    ) -> Result<(), Reason> {
        let worth = self.asked.remove(&id);
        match worth {
            None | Some(Worth::None) => return Ok(()),
            Some(Worth::Old) => self.look(Arc::clone(&id)),
            Some(Worth::Good) => {}
        }
        match answer {
            Ok(answer) => {
                self.failed.remove(&id);
                found.push((id, answer));
            }
            // One container is not the engine.
            Err(reason) if reason.is_of_one_answer() => self.fail(id, reason),
            Err(reason) => return Err(reason),
        }
        Ok(())
    }

    fn fail(&mut self, id: Arc<str>, reason: Reason) {
        let before = self.failed.remove(&id);
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::warn!(container = short(&id), %reason, "a container stays as it was last seen");
        }
        let mut backoff = before.map_or(Backoff::new(SHORTEST, LONGEST), |before| before.backoff);
        let due = Instant::now() + backoff.pause();
        let failed = Failed { backoff, due, reason };
        self.failed.insert(id, failed);
    }

    /// Who could not be had, for people.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        self.failed.iter().map(|(id, failed)| Note {
            service: None,
            what: format!("container {}: {}", short(id), failed.reason),
            consequence: "it stays as it was last seen, or is not served where it never was".into(),
            fix: format!(
                "see docker inspect {id} and what the engine logs (journalctl -u docker); it is asked again",
                id = short(id)
            ),
        })
    }
}

async fn inspect(client: &Docker, id: &str) -> Result<Found, Reason> {
    let answer = async {
        match client
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
        {
            Ok(inspected) => Ok(Some(Box::new(inspected))),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    ask("GET /containers/ID/json", answer).await
}
