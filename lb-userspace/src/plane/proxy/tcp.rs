//! TCP: accepted, connected to a task, carried.

mod accept;
mod announce;
mod carry;
mod dial;
mod gate;
mod hold;
mod pipe;

pub use accept::serve;
pub use hold::Hold;
