//! What a node finds when another one asks it for a task.

use std::net::SocketAddr;

/// A task of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: SocketAddr,
    /// It is being taken out of service, and there are others: it gets no new flows.
    pub avoided: bool,
}
