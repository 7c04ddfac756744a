//! The whole plane over loopback: real clients, real tasks.

mod announce;
mod carry;
mod datagrams;
mod failures;
mod heirs;
mod led;
mod limits;
mod members;
pub mod rig;
