//! The desired state and the pictures made of it.

pub mod desired;
pub mod identity;
pub mod snapshot;

pub use desired::{Desired, DesiredBackend, DesiredNode, DesiredService, Stamps};
pub use identity::Identity;
pub use snapshot::{
    Affinity, Backend, Family, Frontend, HealthCheck, Member, Node, Pool, Probe, Protocol, Service, Snapshot,
    Standing,
};
