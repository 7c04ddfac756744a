//! Portico beside real container engines: `cargo xtask test docker`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod asker;
mod compose;
mod containers;
mod deploy;
mod harness;
mod podman;
mod refusals;
mod restarts;
mod shop;
mod swarm;
