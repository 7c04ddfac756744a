//! The services of a Docker swarm: managers' lists of services, tasks, nodes and networks, and what this node's engine knows
//! of its own tasks.
//!
//! ```text
//! manager: lists ─> picture ─┬─> localize ─> writer
//!                            └─> stream to the others
//! others:  stream ─────────────> localize ─> writer
//! ```

mod belief;
pub mod fetch;
pub mod follow;
mod history;
pub mod lists;
pub mod localize;
pub mod picture;
pub mod poll;
#[cfg(test)]
mod recorded;
pub mod role;
pub mod trouble;
pub mod ways;

/// What this source is called.
pub const NAME: &str = "swarm";
