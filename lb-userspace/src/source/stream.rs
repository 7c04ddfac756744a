//! Between agents: those on the managers of a swarm tell the others what the swarm wants. `docs/stream.md` describes it.
//!
//! ```text
//! swarm source on a manager ─> Publisher ─> serve ══ TLS ══> follow ─> swarm source on the others
//! ```

mod certificates;
pub mod codec;
mod figures;
mod follow;
mod held;
mod identity;
mod limits;
mod link;
mod peer;
mod publisher;
mod refusal;
mod serve;
mod step;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

pub use certificates::Certificates;
pub use figures::{Count, Figures, StreamReport};
pub use follow::{Connection, Follow, FollowReport, Following, follow};
pub use identity::{Trouble, is_uncertified, own};
pub use publisher::{Publisher, bytes_of_change};
pub use serve::{Serving, serve};
