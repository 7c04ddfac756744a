//! Where a task is found by who asks for it. An engine's networks are isolated from each other: an address on one of them
//! leads there from that network alone, and the one at which its node delivers (a gateway bridge's, say) means nothing to
//! other containers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Backend;

/// What the index needs to know beside the snapshot.
pub struct Frame {
    /// This node's name.
    pub node: Arc<str>,
    /// Whether there is a Kubernetes zone.
    pub cluster: bool,
}

/// From where somebody asks.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// This node itself, whose own way to its tasks is where it delivers.
    Node,
    /// Somebody on these networks, in lower case.
    On(&'a [&'a str]),
}

/// Where `backend` is found from there, without repeats; nowhere: it is on none of those networks.
pub fn addresses(backend: &Backend, place: Place<'_>, node: &str) -> Vec<IpAddr> {
    let attachments = backend.attachments.iter();
    let found: BTreeSet<IpAddr> = match place {
        _ if backend.attachments.is_empty() => return backend.addresses.clone(),
        Place::Node if *backend.node == *node => return backend.addresses.clone(),
        Place::Node => attachments.map(|attachment| attachment.address).collect(),
        Place::On(networks) => {
            let is_on = |network: &str| networks.iter().any(|known| known.eq_ignore_ascii_case(network));
            let shared = attachments.filter(|attachment| is_on(&attachment.network));
            shared.map(|attachment| attachment.address).collect()
        }
    };
    found.into_iter().collect()
}

/// Every address by which it may be known on this node.
pub fn all(backend: &Backend) -> BTreeSet<IpAddr> {
    let attachments = backend.attachments.iter().map(|attachment| attachment.address);
    backend.addresses.iter().copied().chain(attachments).collect()
}
