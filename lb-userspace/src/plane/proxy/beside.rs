//! What the packet programs of the same node do for the proxy, and what they know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::fronts::Bind;
use super::ways::Task;

/// By default there are no packet programs.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub lookup: Option<Arc<dyn Lookup>>,
    pub backs: Option<Arc<dyn Backs>>,
}

/// The kernel's search for a listening socket, as far as packet programs have a say in it: clients come to sockets of the proxy
/// at ports that other programs of this node have.
pub trait Lookup: Debug + Send + Sync {
    /// Where clients find the sockets that an agent before this one led them to, by the sockets' cookies.
    fn found(&self) -> BTreeMap<u64, Bind>;

    /// Leads who comes in to `bind` to this listening socket, or to another one of its group. Fails with the reason, in words.
    fn lead(&self, bind: Bind, socket: BorrowedFd<'_>) -> Result<(), String>;

    /// Leads nobody any more but to these.
    fn keep(&self, binds: &BTreeSet<Bind>);
}

/// Ways back of the flows that packet programs have: what a task answers by them reaches no socket.
pub trait Backs: Debug + Send + Sync {
    /// Whether there is one from this task to that client's address and port, as the task sees them.
    fn has(&self, task: Task, client: SocketAddr) -> bool;
}
