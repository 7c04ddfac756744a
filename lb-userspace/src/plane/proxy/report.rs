//! What the proxy tells about itself, over the control socket and in the command line.

use serde::{Deserialize, Serialize};

/// Since the plane was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// Threads, each with a socket at every frontend.
    pub workers: usize,
    /// Frontends, by address family and protocol, at which this node listens.
    pub listeners: usize,
    /// Connections accepted.
    pub opened: u64,
    /// One for each of [`Cause::ALL`](super::Cause::ALL), in that order.
    pub ended: Vec<CauseReport>,
    /// Further tasks asked for a client whose first one could not be had.
    pub retries: u64,
    /// Times that a worker stopped to accept, for want of descriptors or with as many connections as may be.
    pub pauses: u64,
    pub bytes_to_tasks: u64,
    pub bytes_to_clients: u64,
}

impl ProxyReport {
    /// Whether it serves anybody, or has.
    pub const fn is_used(&self) -> bool {
        self.listeners > 0 || self.opened > 0
    }
}

/// Connections that ended for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseReport {
    pub cause: String,
    pub connections: u64,
}
