//! What is known of the engine, kept between its answers, and the picture that is made of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::{ContainerSummary, NetworkInspect, SystemInfo};
use tokio::time::Instant;

use super::agreement::{same_health, same_run};
use super::local::{Container, GATEWAY, Joined, Local, Membership, Run, TASK};
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
    /// Places on [`GATEWAY`], by container.
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

    /// Who is on [`GATEWAY`], and where.
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

    /// Whether a running task has no place on [`GATEWAY`] yet although it may need one.
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

    /// The picture as it was made last.
    pub fn last(&self) -> Arc<Local> {
        Arc::clone(&self.picture)
    }

    /// The next picture, where it differs from the one before. It shares with that what is the same.
    pub fn picture(&mut self) -> Option<Arc<Local>> {
        let stale = mem::take(&mut self.stale);
        let mut containers = None;
        let borrowers: Vec<Arc<str>> = if stale.is_empty() {
            Vec::new()
        } else {
            self.borrowers.iter().cloned().collect()
        };
        for id in stale.into_iter().chain(borrowers) {
            let next = self.entries.get(&id).map(|entry| self.shown(entry));
            let before = self.picture.containers.get(&id);
            if next.as_ref() == before.map(Arc::as_ref) {
                continue;
            }
            let containers = containers.get_or_insert_with(|| self.picture.containers.clone());
            match next {
                Some(next) => containers.insert(id, Arc::new(next)),
                None => containers.remove(&id),
            };
        }
        let before = &self.picture;
        let same = containers.is_none()
            && (&before.swarm, before.unclear) == (&self.swarm, !self.identified)
            && (&before.root, &before.notes) == (&self.root, &self.notes);
        if same {
            return None;
        }
        self.picture = Arc::new(Local {
            swarm: self.swarm.clone(),
            unclear: !self.identified,
            notes: self.notes.clone(),
            root: self.root.clone(),
            containers: containers.unwrap_or_else(|| self.picture.containers.clone()),
        });
        Some(Arc::clone(&self.picture))
    }

    /// A container with what others know of it.
    fn shown(&self, entry: &Entry) -> Container {
        let mut container = entry.inspected.container.clone();
        container.stopping |= entry.stop.is_some();
        if let Some(joined) = self.gateways.get(&container.id) {
            container
                .networks
                .entry(GATEWAY.into())
                .or_insert_with(|| joined.clone());
        }
        if let Some(lender) = entry
            .inspected
            .borrows
            .as_deref()
            .and_then(|lender| self.find(lender))
        {
            let lent = self
                .gateways
                .get(&lender.id)
                .map(|joined| (Arc::from(GATEWAY), joined));
            let networks = lender
                .networks
                .iter()
                .map(|(name, joined)| (Arc::clone(name), joined));
            // Its aliases are the lender's own.
            let networks = networks.chain(lent).map(|(name, joined)| {
                (
                    name,
                    Joined {
                        aliases: Vec::new(),
                        ..joined.clone()
                    },
                )
            });
            container.networks = networks.collect();
            container.host = lender.host;
        }
        container
    }

    /// By id, or by name as it is written in a configuration.
    fn find(&self, lender: &str) -> Option<&Container> {
        let by_id = self.entries.get(lender);
        let entry = by_id.or_else(|| {
            self.entries
                .values()
                .find(|entry| &*entry.inspected.container.name == lender)
        })?;
        Some(&entry.inspected.container)
    }
}

impl Entry {
    fn is_task(&self) -> bool {
        self.inspected.container.labels.contains_key(TASK)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bollard::models::{ContainerInspectResponse, EndpointResource};

    use super::*;

    fn inspected(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> Inspected {
        let mut answer = serde_json::json!({
            "Id": id, "Name": format!("/{id}"), "Created": "2026-11-20T23:51:57Z",
            "State": { "Status": "running", "StartedAt": "1" },
            "Config": { "StopTimeout": 90, "StopSignal": "SIGUSR1", "Labels": {} },
            "HostConfig": { "NetworkMode": "bridge" },
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2", "Gateway": "172.17.0.1" } } },
        });
        change(&mut answer);
        let answer: ContainerInspectResponse = serde_json::from_value(answer).unwrap();
        translate::container(answer).unwrap()
    }

    fn stopping(book: &mut Book, id: &str) -> bool {
        book.picture();
        book.picture.containers[id].stopping
    }

    #[test]
    fn a_stop_signal_is_believed_until_the_time_to_stop_is_over() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.learn(inspected("a", |_| {}));
        assert!(!stopping(&mut book, "a"));
        book.signal("a", "1", now);
        assert_eq!(book.next_expiry(), None);
        book.signal("a", "10", now);
        assert!(stopping(&mut book, "a"));
        assert_eq!(book.next_expiry(), Some(now + Duration::from_secs(95)));
        // Looked at again, it is still the one that was told.
        book.learn(inspected("a", |_| {}));
        assert!(stopping(&mut book, "a"));
        book.expire(now + Duration::from_secs(95));
        assert!(!stopping(&mut book, "a"));
    }

    #[test]
    fn one_that_was_started_again_has_not_been_told_to_stop() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.learn(inspected("a", |_| {}));
        book.signal("a", "SIGTERM", now);
        book.learn(inspected("a", |answer| answer["State"]["StartedAt"] = "2".into()));
        assert!(!stopping(&mut book, "a"));
        book.signal("a", "9", now);
        book.learn(inspected("a", |answer| {
            answer["State"]["Status"] = "exited".into()
        }));
        assert!(!stopping(&mut book, "a"));
    }

    #[test]
    fn who_shares_a_network_is_where_its_lender_is() {
        let mut book = Book::default();
        book.learn(inspected("lender", |_| {}));
        book.learn(inspected("guest", |answer| {
            answer["HostConfig"]["NetworkMode"] = "container:lender".into();
            answer["NetworkSettings"]["Networks"] = serde_json::json!({});
        }));
        let picture = book.picture().unwrap();
        let address: std::net::IpAddr = [172, 17, 0, 2].into();
        assert_eq!(
            picture.containers["guest"].networks["bridge"].addresses,
            [address]
        );
        // And goes where that goes.
        book.learn(inspected("lender", |answer| {
            answer["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "172.17.0.9".into();
        }));
        let picture = book.picture().unwrap();
        assert_eq!(
            picture.containers["guest"].networks["bridge"].addresses[0].to_string(),
            "172.17.0.9"
        );
    }

    #[test]
    fn a_task_has_its_place_on_the_bridge_of_tasks() {
        let mut book = Book::default();
        book.learn(inspected("task", |answer| {
            answer["Config"]["Labels"] = serde_json::json!({ TASK: "x" });
        }));
        assert!(book.lacks_gateway());
        let place = EndpointResource {
            ipv4_address: Some("172.20.0.6/16".into()),
            ..Default::default()
        };
        let containers = [
            ("task".to_owned(), place),
            ("ingress-sbox".to_owned(), EndpointResource::default()),
        ];
        book.bridge(Some(NetworkInspect {
            containers: Some(containers.into()),
            ..Default::default()
        }));
        assert!(!book.lacks_gateway());
        let picture = book.picture().unwrap();
        assert_eq!(
            picture.containers["task"].networks[GATEWAY].addresses[0].to_string(),
            "172.20.0.6"
        );
    }

    #[test]
    fn what_did_not_change_is_the_same_picture() {
        let mut book = Book::default();
        book.learn(inspected("a", |_| {}));
        book.learn(inspected("b", |_| {}));
        let before = book.picture().unwrap();
        book.learn(inspected("a", |_| {}));
        assert!(book.picture().is_none());
        book.learn(inspected("a", |answer| answer["Name"] = "/other".into()));
        let after = book.picture().unwrap();
        assert!(Arc::ptr_eq(&before.containers["b"], &after.containers["b"]));
        assert_eq!(&*after.containers["a"].name, "other");
        book.forget("b");
        assert_eq!(book.picture().unwrap().containers.len(), 1);
    }
}
