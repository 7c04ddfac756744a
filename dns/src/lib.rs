//! Portico's name server: answers for the names of a [`Directory`], and forwards the rest.
//!
//! ```text
//!  UDP, TCP ──> listen ──> service ──> answer ──> Directory        names of ours: zones, search domains, addresses
//!                             │           └── name                 what a name may mean
//!                             └──────> forward ──> upstreams       all others: remembered, coalesced, raced, checked
//! ```
//! A query is checked, limited and decoded in `service`; if `answer` finds that its name is ours, the answer is made on the
//! spot, within the batch of datagrams it came in. Everything else is `forward`'s: from memory on the spot too, otherwise
//! in a task of its own that ends in bounded time.
//!
//! What is promised to clients, by standard, is told by the tests in `tests/server/`.

mod answer;
mod config;
mod directory;
mod encode;
mod forward;
mod handler;
mod limit;
mod listen;
mod name;
mod server;
mod service;
mod statistics;
mod wire;

pub use config::{Config, ConfigError, ForwardConfig, LimitConfig, TcpConfig};
pub use directory::{
    Directory, Entry, Host, Lookup, Pointer, Port, Reverse, Subject, Target, Transport, Zone,
};
pub use forward::{Standing, UpstreamReport};
pub use handler::Handler;
/// Types of this crate's interface are hickory's.
pub use hickory_server::{self as hickory, proto};
pub use server::{Server, StartError};
pub use service::Source;
pub use statistics::{Counter, Latency, Statistics};
