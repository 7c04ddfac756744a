//! How clients come to sockets of the proxy at ports that other programs of this node have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use super::fronts::Bind;

/// The kernel's search for a listening socket, as far as packet programs have a say in it.
pub trait Lookup: Debug + Send + Sync {
    /// Where clients find the sockets that an agent before this one led them to, by the sockets' cookies.
    fn found(&self) -> BTreeMap<u64, Bind>;

    /// Leads who comes in to `bind` to this listening socket, or to another one of its group. Fails with the reason, in words.
    fn lead(&self, bind: Bind, socket: BorrowedFd<'_>) -> Result<(), String>;

    /// Leads nobody any more but to these.
    fn keep(&self, binds: &BTreeSet<Bind>);
}
