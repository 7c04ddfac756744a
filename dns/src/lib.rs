//! Portico's name server: answers for the names of a [`Directory`], and forwards the rest.

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
pub use handler::Handler;
/// Types of this crate's interface are hickory's.
pub use hickory_server::{self as hickory, proto};
pub use server::{Server, StartError};
pub use service::Source;
pub use statistics::{Counter, Latency, Statistics};
