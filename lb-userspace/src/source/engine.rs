//! The container engine of this node: Docker, or what speaks its API.

pub mod local;

pub use local::{Container, Health, Local, Manager, Membership, Published, Run};
