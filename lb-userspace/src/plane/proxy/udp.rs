//! UDP: the datagrams of many clients by one socket, each client's by a socket of its own to its task.
//!
//! ```text
//!  clients ──> frontend's socket ──recvmmsg──> inbox ──> flows ──sendmmsg──> a flow's socket ──> task
//!          <────────sendmmsg──────────────── outbox <──epoll, recvmmsg──────┘
//!                                                         └──> trunk ══> the task's node, where the flow has its socket
//! ```
//! A flow is what one client's port says to one address of a frontend. It keeps its member until it was silent for long enough,
//! also while the member drains; when the member is gone or unfit the next datagram moves it. A task that refuses
//! a datagram (ICMP port unreachable, which the kernel reports to the flow's socket) ends the flow: its next datagram goes to
//! another member, for which it waits nowhere. The refused datagram itself goes there if it was the flow's
//! first; else its client is told. An error that a client's host sends about answers
//! is not passed on to the task: the frontend's socket is not connected, and hears of none.
//!
//! There is no timer for a flow, no task and no buffer: a socket, some 200 bytes, and a descriptor. What flows there may be
//! at a time is bounded, in all and for each source. Before the first bound, and while others find room still, a table makes room for a
//! new flow by its oldest one that was never answered: a flood from forged sources displaces itself, and neither who talks to a
//! task nor who begins to at another frontend.

mod answers;
mod carrier;
mod census;
mod control;
mod counters;
mod fault;
mod flows;
mod inbox;
mod inward;
mod kernel;
mod outbox;
mod outward;
mod place;
mod refusers;
mod room;
mod sending;
mod towards;
pub mod trunk;
mod unreachable;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;

pub use carrier::serve;
pub use counters::{Counters, Loss, Traffic};
pub use towards::listen;

use self::census::Census;
use self::flows::FlowId;
use self::inbox::Inbox;
use self::outbox::Outbox;
use self::trunk::{Call, Trunks};
use self::unreachable::Unreachable;
use super::report::UdpReport;
use super::ways::Ways;
use crate::model::Node;

/// Who answers at a frontend, as one snapshot has it.
pub trait Choose {
    /// The member that a new flow of `client` is given, which is none of those `tried`, named by their tags. None: there is no
    /// other.
    fn choose(&self, client: SocketAddr, tried: &[u64]) -> Option<Target>;

    /// Of a member that a flow has.
    fn prospect(&self, tag: u64) -> Prospect;

    /// Changes whenever an answer of [`prospect`](Self::prospect) may have changed, or another one of
    /// [`choose`](Self::choose): flows ask again then.
    fn generation(&self) -> u64;
}

/// The member chosen for a flow.
pub struct Target {
    pub tag: u64,
    pub way: Way,
    /// Dropped when the flow ends or moves: flows are counted by it.
    pub held: Option<Box<dyn Any>>,
}

/// Where a member's datagrams go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To its own address.
    Here(SocketAddr),
    /// To that node, which brings them there.
    There(Node),
}

/// What a flow may expect of its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    Active,
    /// It keeps what it has.
    Draining,
    /// It is unhealthy, or its node silent: flows go elsewhere, if there is somebody.
    Unfit,
    /// Its flows end.
    Gone,
}

/// How many flows there may be, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// On this node. Each takes a descriptor and, of its family, a port of net.ipv4.ip_local_port_range.
    pub flows: usize,
    /// Of one client address, or of one /64 of IPv6.
    pub per_source: usize,
    /// A flow that is silent for so long ends.
    pub idle: Duration,
    /// The same while more than half of the flows are there that may be, in all or of the flow's source.
    pub hurried: Duration,
}

impl Default for Bounds {
    /// The times are the eBPF plane's, the rest what `[proxy]` has where the file says nothing.
    fn default() -> Self {
        Self {
            flows: 1 << 14,
            per_source: 1 << 10,
            idle: Duration::from_secs(180),
            hurried: Duration::from_secs(10),
        }
    }
}

/// What all workers of a node share.
#[derive(Debug)]
pub struct Shared {
    bounds: Bounds,
    /// To tasks of this node.
    ways: Arc<Ways>,
    census: Arc<Census>,
    unreachable: Unreachable,
    /// Of this node's clients.
    pub counters: Arc<Counters>,
    /// Of other nodes' clients, whose tasks are here.
    pub for_nodes: Counters,
    pub trunks: trunk::Figures,
}

impl Shared {
    /// To be made while the agent may open raw sockets.
    pub fn new(bounds: Bounds, ways: Arc<Ways>) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            ways,
            census: Census::new(bounds.flows, bounds.per_source),
            unreachable: Unreachable::open(),
            counters: Arc::default(),
            for_nodes: Counters::default(),
            trunks: trunk::Figures::default(),
        })
    }

    /// The flows of this node.
    pub fn flows(&self) -> usize {
        self.census.all()
    }

    /// Of this node's clients, and of other nodes'.
    pub fn report(&self) -> [UdpReport; 2] {
        let for_nodes = self.trunks.flows.load(Relaxed);
        let own = (self.flows() as u64).saturating_sub(for_nodes);
        [self.counters.report(own), self.for_nodes.report(for_nodes)]
    }

    /// Clients of that family can be told that their datagram was refused; they cannot without CAP_NET_RAW.
    pub fn can_tell(&self, v6: bool) -> bool {
        self.unreachable.can_tell(v6)
    }
}

/// What one thread carries with, for all of its frontends.
pub struct Worker {
    shared: Arc<Shared>,
    /// Borrowed for a batch, never while anything is waited for.
    desk: RefCell<Desk>,
    /// Another agent has the frontends' sockets.
    retired: watch::Sender<bool>,
    trunks: Trunks,
}

#[derive(Default)]
struct Desk {
    inbox: Inbox,
    outbox: Outbox,
    /// Slots of the inbox by flow.
    sorted: Vec<(FlowId, usize)>,
}

impl Worker {
    pub fn new(shared: &Arc<Shared>, call: Rc<dyn Call>) -> Rc<Self> {
        Rc::new(Self {
            trunks: Trunks::new(call, shared),
            shared: Arc::clone(shared),
            desk: RefCell::default(),
            retired: watch::Sender::default(),
        })
    }

    /// Nothing more is received from clients: that is another agent's now. Answers go on to them until there are none for a
    /// moment.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }
}
