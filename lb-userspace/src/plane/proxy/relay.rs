//! Between nodes: a connection whose task runs on another node is carried there over TLS, and that node's agent connects it
//! to the task. `docs/relay.md` describes it.
//!
//! ```text
//! client ── Dialer ══ TLS: PROXY v2 header with the member's tag, an answer, the bytes ══> door ─> Lane ── task
//! ```

mod book;
mod call;
mod carry;
mod dial;
mod entrance;
mod figures;
mod identity;
mod lane;
mod limits;
mod reach;
mod refusal;
mod relayed;
mod shelf;
mod trunk;
mod wire;

#[cfg(test)]
pub mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use socket2::TcpKeepalive;

use crate::door::{Complaints, Room};
use crate::model::View;
use crate::plane::proxy::socket;
use book::Library;
use entrance::{Entrance, Lanes};
use figures::Figures;
use identity::Identity;
use reach::Reach;

pub use carry::{Breach, Passed};
pub use dial::{Dialer, Failure};
pub use figures::RelayReport;
pub use identity::{PROTOCOL, Unmade};
pub use lane::Lane;
pub use reach::Unreachable;
pub use refusal::Refusal;
pub use relayed::Relayed;

/// What a relay is made with.
pub struct Setup {
    /// This node.
    pub node: Arc<str>,
    /// The cluster's key of that name.
    pub authority: [u8; 32],
    /// `[peer] port`, the same on every node.
    pub port: u16,
    pub view: View,
    /// As `[proxy]` has it, for connections between nodes and those to tasks for other nodes.
    pub keepalive: Duration,
}

/// Both sides of it on this node. Cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    identity: Identity,
    port: u16,
    library: Library,
    keepalive: TcpKeepalive,
    figures: Figures,
    reach: Reach,
    complaints: Complaints,
    lanes: Lanes,
    /// Clients come to this agent no more.
    is_retired: AtomicBool,
    /// Nobody carries on what would begin now.
    is_over: AtomicBool,
}

impl Relay {
    pub fn new(setup: Setup) -> Result<Self, Unmade> {
        let identity = Identity::new(&setup.authority, &setup.node)?;
        Ok(Self::with(identity, setup))
    }

    fn with(identity: Identity, setup: Setup) -> Self {
        Self(Arc::new(Shared {
            identity,
            port: setup.port,
            library: Library::new(setup.node, setup.view),
            keepalive: socket::keepalive(setup.keepalive),
            figures: Figures::default(),
            reach: Reach::default(),
            complaints: Complaints::default(),
            lanes: Lanes::default(),
            is_retired: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }))
    }

    /// For the door. What comes in goes to the lanes in turn.
    pub fn room(&self) -> Arc<dyn Room> {
        Arc::new(Entrance(Arc::clone(&self.0)))
    }

    /// One more thread that carries for other nodes, as long as the lane runs.
    pub fn lane(&self) -> Lane {
        Lane::new(Arc::clone(&self.0))
    }

    /// Connections to other nodes belong to the runtime that they were made in: each has a dialer of its own.
    pub fn dialer(&self) -> Dialer {
        Dialer::new(Arc::clone(&self.0))
    }

    /// No more clients come: a node that cannot be reached is tried for those who wait still, and for operators no longer.
    pub fn retire(&self) {
        self.0.is_retired.store(true, SeqCst);
    }

    /// Other nodes have nothing begun any more, by handshakes that are finished either: they ask somebody else. What is carried
    /// goes on.
    pub fn end(&self) {
        self.0.is_over.store(true, SeqCst);
    }

    pub fn report(&self) -> RelayReport {
        let Shared { library, .. } = &*self.0;
        let book = library.book();
        RelayReport {
            unreachable: self.0.reach.report(|to| to.is_in(&book)),
            ..self.0.figures.report()
        }
    }
}

impl Shared {
    fn refuse(&self, from: SocketAddr, refusal: &Refusal) {
        self.figures.refused(refusal);
        if let Refusal::Elsewhere = refusal {
            // It follows managers, and this node tells nothing, or not now.
            tracing::debug!(%from, "not told what the swarm wants: this node does not tell it");
        } else if self.complaints.due(from.ip(), Instant::now()) {
            tracing::warn!(%from, "refused to relay for a node: {refusal}");
        }
    }
}
