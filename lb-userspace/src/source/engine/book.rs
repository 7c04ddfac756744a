//! What is known of the engine, kept between its answers.

mod picture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::{ContainerSummary, NetworkInspect, SystemInfo};
use tokio::time::Instant;

use super::agreement::{same_health, same_run};
use super::local::{Joined, Local, Membership, Run, TASK};
use super::problem::Reason;
use super::stopping;
use super::translate::{self, Inspected, Networks};
use crate::source::Note;

#[derive(Default)]
pub struct Book {
    swarm: Option<Membership>,
    /// The engine has said whether it is in a swarm.
    identified: bool,
    /// Why that is not known, or no more.
    unidentified: Option<Note>,
    notes: Vec<Note>,
    root: PathBuf,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Places on [`GATEWAY`](super::local::GATEWAY), by container.
    gateways: BTreeMap<Arc<str>, Joined>,
    /// Containers on the network of another one, whose picture changes with that one's.
    borrowers: BTreeSet<Arc<str>>,
    /// What the next picture has anew.
    stale: BTreeSet<Arc<str>>,
    picture: Arc<Local>,
}

struct Entry {
    inspected: Inspected,
    /// Told to end, and granted time until then.
    stop: Option<Instant>,
}

impl Book {
    /// What the engine says of itself.
    pub fn identify(&mut self, info: &SystemInfo) {
        if let Some(root) = info.docker_root_dir.as_deref().filter(|root| !root.is_empty()) {
            self.root = root.into();
        }
        let mut swarm = translate::membership(info);
        let error = swarm.as_ref().and_then(|swarm| swarm.error.as_deref());
        self.unidentified = error.map(|error| Note {
            service: None,
            what: format!("this node's place in the swarm: {error}"),
            consequence: "the swarm's services are served as they were last known".into(),
            fix: "see docker info and what the engine logs (journalctl -u docker)".into(),
        });
        if let Some(next) = swarm.as_mut().filter(|swarm| swarm.node.is_empty()) {
            // An engine does not know its own id while it joins, is locked, or starts that part of itself anew.
            let Some(before) = &self.swarm else {
                return;
            };
            next.node = Arc::clone(&before.node);
            next.address = next.address.or(before.address);
        }
        self.swarm = swarm;
        self.identified = true;
    }

    /// The engine did not say what it is to a swarm: it is what it was.
    pub fn unidentified(&mut self, reason: &Reason) {
        let note = Note {
            service: None,
            what: format!("whether the engine is in a swarm is not known at present: {reason}"),
            consequence: "the swarm's services are served as they were last known; containers are followed"
                .into(),
            fix: "see docker info and what the engine logs (journalctl -u docker)".into(),
        };
        if self.unidentified.as_ref() != Some(&note) {
            tracing::warn!("{}; {}", note.what, note.consequence);
        }
        self.unidentified = Some(note);
    }

    pub fn is_identified(&self) -> bool {
        self.identified
    }

    /// What else the engine does not say.
    pub fn note(&mut self, others: impl Iterator<Item = Note>) {
        self.notes = self.unidentified.iter().cloned().chain(others).collect();
    }

    pub fn is_in_swarm(&self) -> bool {
        self.swarm.is_some()
    }

    pub fn is_task(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(Entry::is_task)
    }

    pub fn knows(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    /// A container as it is now.
    pub fn learn(&mut self, inspected: Inspected) {
        let id = Arc::clone(&inspected.container.id);
        let before = self.entries.remove(&id);
        // One that was started again has not been told to end, and one that does not run needs no telling.
        let runs = matches!(inspected.container.run, Run::Running | Run::Paused);
        let stop = before
            .filter(|before| runs && before.inspected.started == inspected.started)
            .and_then(|before| before.stop);
        if inspected.borrows.is_some() {
            self.borrowers.insert(Arc::clone(&id));
        } else {
            self.borrowers.remove(&id);
        }
        self.stale.insert(Arc::clone(&id));
        self.entries.insert(id, Entry { inspected, stop });
    }

    /// A container that the engine has no more.
    pub fn forget(&mut self, id: &str) {
        if let Some((id, _)) = self.entries.remove_entry(id) {
            self.borrowers.remove(&id);
            self.gateways.remove(&id);
            self.stale.insert(id);
        }
    }

    /// A container has been sent a signal.
    pub fn signal(&mut self, id: &str, signal: &str, now: Instant) {
        let Some((id, entry)) = self
            .entries
            .get_key_value(id)
            .map(|(id, _)| Arc::clone(id))
            .and_then(|id| {
                let entry = self.entries.get_mut(&id)?;
                Some((id, entry))
            })
        else {
            return;
        };
        if stopping::ends(signal, entry.inspected.stop_signal.as_deref()) {
            let granted = entry.inspected.stop_timeout + stopping::GRACE;
            entry.stop = Some(now + granted.clamp(stopping::LEAST, stopping::MOST));
            self.stale.insert(id);
        }
    }

    /// Who still runs although its time is over has made nothing of the signal.
    pub fn expire(&mut self, now: Instant) {
        for (id, entry) in &mut self.entries {
            if entry.stop.is_some_and(|until| until <= now) {
                entry.stop = None;
                self.stale.insert(Arc::clone(id));
            }
        }
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.stop).min()
    }

    /// Who is on [`GATEWAY`](super::local::GATEWAY), and where.
    pub fn bridge(&mut self, network: Option<NetworkInspect>) {
        let containers = network.and_then(|network| network.containers).unwrap_or_default();
        let place = |(id, place): (String, bollard::models::EndpointResource)| {
            let addresses = [place.ipv4_address, place.ipv6_address].into_iter().flatten();
            let joined = Joined {
                addresses: addresses
                    .filter_map(|address| translate::bare(&address))
                    .collect(),
                aliases: Vec::new(),
                gateway: true,
                priority: 0,
            };
            (Arc::from(id), joined)
        };
        let gateways: BTreeMap<Arc<str>, Joined> = containers.into_iter().map(place).collect();
        let before = mem::replace(&mut self.gateways, gateways);
        let changed = self
            .entries
            .keys()
            .filter(|id| before.get(*id) != self.gateways.get(*id));
        self.stale.extend(changed.cloned());
    }

    /// Whether a running task has no place on [`GATEWAY`](super::local::GATEWAY) yet although it may need one.
    pub fn lacks_gateway(&self) -> bool {
        let lacks = |(id, entry): (&Arc<str>, &Entry)| {
            let container = &entry.inspected.container;
            entry.is_task()
                && container.run == Run::Running
                && !container.host
                && !self.gateways.contains_key(id)
        };
        self.entries.iter().any(lacks)
    }

    /// Whether the engine's list says of a container what is known of it.
    pub fn agrees(&self, listed: &ContainerSummary) -> bool {
        let Some(entry) = listed.id.as_deref().and_then(|id| self.entries.get(id)) else {
            return false;
        };
        let Inspected {
            container, borrows, ..
        } = &entry.inspected;
        let named = |name: &String| name.trim_start_matches('/') == &*container.name;
        let networks = listed
            .network_settings
            .as_ref()
            .and_then(|settings| settings.networks.as_ref());
        let listed_networks = networks.map(translate::addresses).unwrap_or_default();
        let known: Networks = container
            .networks
            .iter()
            .map(|(name, joined)| (Arc::clone(name), joined.addresses.clone()))
            .collect();
        listed
            .names
            .as_ref()
            .is_none_or(|names| names.is_empty() || names.iter().any(named))
            && same_run(listed.state, container.run)
            && same_health(
                listed.status.as_deref().unwrap_or_default(),
                container.health.as_ref(),
            )
            && (borrows.is_some() || listed_networks == known)
    }

    /// What is not in a complete list is gone, and told.
    pub fn keep_only(&mut self, listed: &HashSet<&str>) -> Vec<Arc<str>> {
        let gone: Vec<Arc<str>> = self
            .entries
            .keys()
            .filter(|id| !listed.contains(&***id))
            .cloned()
            .collect();
        for id in &gone {
            self.forget(id);
        }
        gone
    }
}

impl Entry {
    fn is_task(&self) -> bool {
        self.inspected.container.labels.contains_key(TASK)
    }
}
