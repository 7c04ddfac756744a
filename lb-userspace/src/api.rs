//! The control API: what an agent tells about itself and lets itself be told, over its unix socket.
//!
//! HTTP and JSON, so that `curl --unix-socket` serves as well as `portico`. Every view is a pure function of
//! [`Facts`]; whoever may open the socket may use all of it.

pub mod backend;
pub mod client;
pub mod drain;
pub mod explain;
pub mod facts;
pub mod naming;
pub mod node;
mod problem;
pub mod published;
pub mod rules;
pub mod server;
pub mod service;
pub mod serving;
pub mod socket;
pub mod status;

#[cfg(test)]
pub(crate) mod sample;

pub use client::Client;
pub use facts::Facts;
pub use problem::Problem;

use std::collections::BTreeSet;

use crate::model::DrainObject;
use crate::names::report::{DnsAnswer, DnsQuestion};
use crate::plane::{Difference, Question, TraceReport};

/// What the API needs of the agent. Called on threads that may block.
pub trait Agent: Send + Sync + 'static {
    /// This moment.
    fn facts(&self) -> Facts;

    /// Runs the loaded program on a packet, without effect.
    fn trace(&self, question: &Question) -> Result<TraceReport, Problem>;

    /// Sets or takes away an operator's drain mark, everywhere.
    fn mark(&self, object: &DrainObject, drained: bool) -> Result<(), Problem>;

    /// Asks the name server a question, as one of its clients would.
    fn ask(&self, question: DnsQuestion) -> Result<DnsAnswer, Problem>;

    /// What differed between the kernel's tables and the snapshot; the plane sets right what it can.
    fn differences(&self) -> Result<Vec<Difference>, Problem>;

    /// The sockets by which its proxy hears clients, by the numbers of their inodes.
    fn sockets(&self) -> Result<BTreeSet<u64>, Problem>;
}
