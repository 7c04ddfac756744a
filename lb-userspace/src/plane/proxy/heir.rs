//! What an agent that is replaced does with its plane, and one that has replaced it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::watch;

use super::before::One;
use super::{Cause, ProxyPlane, Sockets};

impl ProxyPlane {
    /// Handles of all sockets that clients find.
    pub async fn lend(&self) -> io::Result<Vec<OwnedFd>> {
        let shared = Arc::clone(&self.shared);
        // Those that no snapshot has been there for. It may be applied right now, and that takes its time.
        let given = tokio::task::spawn_blocking(move || {
            let state = shared.state();
            let given = state.listeners.given().map(|socket| socket.try_clone_to_owned());
            given.collect::<io::Result<Vec<_>>>()
        });
        let mut all = given.await.map_err(io::Error::other)??;
        all.extend(self.shared.workers.lend().await?);
        Ok(all)
    }

    /// What the kernel calls the sockets that clients find: the numbers of their inodes.
    pub async fn identities(&self) -> io::Result<BTreeSet<u64>> {
        self.lend().await?.iter().map(Sockets::identity).collect()
    }

    /// Changes whenever clients find other sockets.
    pub fn sockets(&self) -> watch::Receiver<u64> {
        self.shared.sockets.subscribe()
    }

    /// Nothing is begun for other nodes any more: nobody would carry it on.
    pub fn end_relaying(&self) {
        self.shared.relay.end();
    }

    /// Waits until no more clients are taken: the sockets are another agent's.
    pub async fn retire(&self) {
        self.shared.relay.retire();
        self.shared.workers.retire().await;
    }

    /// Those under way, of TCP and UDP, for clients and for other nodes.
    pub fn connections(&self) -> u64 {
        let table = &self.shared.table;
        self.clients() + self.shared.relay.report().carried + table.udp.flows() as u64
    }

    /// Those of them that are TCP connections of this node's clients.
    pub fn clients(&self) -> u64 {
        self.shared.table.counters.open()
    }

    /// By member, and whether that is on this node.
    pub fn counts(&self) -> Vec<(u64, u64, bool)> {
        self.shared.table.live.counts()
    }

    /// Ends connections of members that are gone, and of those that have drained for long enough.
    pub fn end(&self, gone: &[u64], drained: &[u64]) {
        let live = &self.shared.table.live;
        for (tags, cause) in [(gone, Cause::MemberGone), (drained, Cause::Drained)] {
            tags.iter().for_each(|tag| live.end(*tag, cause));
        }
    }

    /// Ends the connections of members whose time to drain is over.
    pub fn look(&self) {
        self.shared.table.live.look();
    }

    /// Whether a member has drained for as long as its service allows.
    pub fn has_drained(&self, tag: u64) -> bool {
        self.shared.table.live.has_drained(tag)
    }

    /// One more agent that still has connections.
    pub fn before(&self) -> One {
        self.shared.before.one()
    }

    /// So many of their clients' TCP connections were reset as their time was over.
    pub fn note_cut(&self, connections: u64) {
        self.shared.table.counters.note_cut(connections);
    }
}
