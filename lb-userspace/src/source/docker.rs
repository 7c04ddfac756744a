//! Containers of this node's engine that no swarm started: Compose services and single containers.
//!
//! Pure but for [`start`]: [`Converter`] makes the wishes of each picture that `source::engine` gives.

mod backend;
mod convert;
mod follow;
mod here;
mod member;
mod service;
#[cfg(test)]
mod tests;

pub use convert::Converter;
pub use follow::{Setup, start};
pub use here::address;

/// What this source is called.
pub const NAME: &str = "docker";
