//! The ports that services publish on every node, and what this node itself has there: connections, and listeners.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::{connected, sockets};
use super::State;
use crate::model::Snapshot;
use crate::outside;
use crate::plane::{EbpfError, Problem};

impl State {
    /// Connections that the node itself has on ports published from now on shall go on.
    pub(super) fn ask_node(&mut self, snapshot: &Snapshot) -> Result<(), EbpfError> {
        self.held = held(snapshot);
        let published = published(snapshot);
        if published.is_subset(&self.published) {
            return Ok(());
        }
        self.published = published;
        let connected = self.connected();
        self.tables.set_connected(connected)
    }

    /// Ports on which this node has connections that are to go on: published ones, and those that its proxy has served.
    pub(super) fn connected(&self) -> BTreeSet<u16> {
        let before = self.tables.connected();
        let mut connected = connected::ports();
        connected.retain(|port| self.published.contains(port) || before.contains(port));
        connected
    }

    /// Published ports of the snapshot are kept for clients.
    pub(super) fn reserve(&mut self, snapshot: &Snapshot) {
        let problem = self.ports.set(&published(snapshot)).err().map(|error| Problem {
            error: format!("cannot reserve the published ports: {error}"),
            traffic: "a connection that this node itself opens could use one of them and break".into(),
            fix: if outside::is_contained() {
                "mount the machine's /proc/sys/net at /host/proc/sys/net in the agent's container, or add them to its sysctl net.ipv4.ip_local_reserved_ports".into()
            } else {
                "add them to the sysctl net.ipv4.ip_local_reserved_ports".into()
            },
        });
        self.problems.insert("ports", problem.into_iter().collect());
    }

    /// What this node's own listeners have of the published ports is left to them, but for what a container engine holds.
    pub(super) fn keep(&mut self) -> Result<(), EbpfError> {
        let listeners = if self.published.is_empty() {
            Ok(Vec::new())
        } else {
            sockets::listeners(&self.published)
        };
        match listeners {
            Ok(listeners) => {
                self.owners.look(&sockets::inodes(&listeners));
                let kept = sockets::kept(&listeners, |listener| {
                    self.owners
                        .is_engines(listener.inode(), listener.is_at_one_of(&self.held))
                });
                self.tables.set_kept(&kept)
            }
            Err(error) => {
                tracing::debug!(%error, "the kernel does not list this node's listeners");
                Ok(())
            }
        }
    }
}

/// Whether the same ports are published; what the snapshots share is not read.
pub fn is_same(before: &Snapshot, after: &Snapshot) -> bool {
    let mut pairs = before.services.values().zip(after.services.values());
    before.services.len() == after.services.len()
        && pairs.all(|(before, after)| Arc::ptr_eq(before, after) || before.frontends == after.frontends)
}

/// Ports that frontends without an address of their own answer on.
fn published(snapshot: &Snapshot) -> BTreeSet<u16> {
    let frontends = snapshot.services.values().flat_map(|service| &service.frontends);
    frontends
        .filter(|frontend| frontend.address.is_none())
        .map(|frontend| frontend.port)
        .collect()
}

/// Ports that container engines publish beside us.
fn held(snapshot: &Snapshot) -> HashSet<(u16, u8)> {
    let frontends = snapshot.services.values().flat_map(|service| &service.frontends);
    frontends
        .filter(|frontend| frontend.held)
        .map(|frontend| (frontend.port, frontend.protocol.number()))
        .collect()
}
