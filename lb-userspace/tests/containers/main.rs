//! Following a container engine, by a simulated one (`tests/engine`) that fails when it is told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod follow;
mod recorded;
mod rig;
