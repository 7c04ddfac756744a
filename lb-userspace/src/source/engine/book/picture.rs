//! The picture that is made of what is known.

use std::mem;
use std::sync::Arc;

use super::super::local::{Container, GATEWAY, Joined, Local};
use super::{Book, Entry};

impl Book {
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
