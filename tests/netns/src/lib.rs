//! Portico's virtual cluster: real agents, real eBPF, real sockets; only the machines are network namespaces.
//!
//! A [`Cluster`] is built from a [`Builder`](builder::Builder), changed while clients run inside it, and removed when
//! it is dropped, by `portico-lab down`, or by its supervisor when the owner was killed.

pub mod address;
pub mod agent;
pub mod builder;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod engine;
pub mod lag;
pub mod names;
pub mod namespace;
pub mod process;
pub mod remains;
pub mod scale;
pub mod scatter;
pub mod services;
pub mod settle;
pub mod state;
pub mod supervisor;
pub mod systemd;
pub mod testing;
pub mod tool;
pub mod topology;
pub mod wait;

pub use cluster::Cluster;
pub use namespace::{Namespace, Running};
pub use state::Service;
