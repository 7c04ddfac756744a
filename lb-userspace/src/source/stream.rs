//! Between agents: those on the managers of a swarm tell the others what the swarm wants. `docs/stream.md` describes it.

pub mod codec;
pub mod held;
pub mod publisher;
mod step;
pub mod wire;

#[cfg(test)]
mod tests;

pub use publisher::{Publisher, bytes_of_change};
