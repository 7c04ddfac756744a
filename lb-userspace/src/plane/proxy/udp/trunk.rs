//! Datagrams between nodes: one connection of each worker to each node carries all flows whose tasks run there.
//!
//! ```text
//!  a flow ── line ┐                                                ┌ a flow's socket ── task
//!  a flow ── line ┴ queue ── pump ══ TLS between nodes ══ pump ── owner ┴ a flow's socket ── task
//! ```
//! A flow gets a number when it has something to say, and ends when either side says so. Nothing is asked and waited for: an
//! opening is followed by the datagram at once, and a refusal sends the flow's only datagram to another member, as if a
//! task of this node had refused it. When a connection breaks, its flows go on over the next one, by other numbers.

pub mod frame;
mod line;
mod mailbox;
mod owner;
mod pump;
mod queue;
mod trunks;

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

pub use self::line::Line;
pub use self::mailbox::{Letter, Mail, Mailbox};
pub use self::owner::{Ended, serve};
pub use self::pump::Link;
#[cfg(test)]
pub use self::queue::MOST;
pub use self::trunks::Trunks;
use crate::model::Node;
use crate::plane::proxy::found::Found;
use crate::plane::proxy::report::TrunkReport;

/// Makes connections to other nodes' agents.
pub trait Call {
    /// One that takes frames. Fails in finite time.
    fn call(&self, node: &Node) -> Calling;
}

pub type Calling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Link>>>>>;

/// Which tasks another node may have flows to.
pub trait Members {
    /// Whether that node is one of the cluster still: one that has left has no flows here.
    fn are_for_a_node(&self) -> bool;

    /// None: this node does not run it.
    fn find(&self, tag: u64) -> Option<Found>;

    /// Counts a flow until it is dropped; nothing where that is not known yet.
    fn count(&self, tag: u64) -> Option<Box<dyn Any>>;
}

/// Of all workers of a node.
#[derive(Debug, Default)]
pub struct Figures {
    /// Connections to other nodes, now.
    pub open: Arc<AtomicU64>,
    /// Connections of other nodes, now.
    pub taken: Arc<AtomicU64>,
    /// Flows of other nodes to tasks of this one, now.
    pub flows: Arc<AtomicU64>,
    /// Connections to other nodes that could not be made.
    pub unreached: AtomicU64,
    /// Connections to other nodes that ended with flows on them.
    pub broken: AtomicU64,
}

impl Figures {
    pub fn report(&self) -> TrunkReport {
        TrunkReport {
            open: self.open.load(Relaxed),
            taken: self.taken.load(Relaxed),
            unreached: self.unreached.load(Relaxed),
            broken: self.broken.load(Relaxed),
        }
    }
}
