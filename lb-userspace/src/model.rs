//! The desired state and the pictures made of it.

pub mod snapshot;

pub use snapshot::{
    Affinity, Backend, Family, Frontend, HealthCheck, Member, Node, Pool, Probe, Protocol, Service, Snapshot,
    Standing,
};
