//! TCP: accepted, connected to a task, carried.

mod accept;
mod announce;
mod carrier;
mod carry;
mod dial;
mod gate;
mod hold;
mod pipe;

pub use accept::serve;
pub use carrier::Carrier;
pub use hold::Hold;
