//! The packet path. What only reads a frame and decides (`frame`, `wire`, `parse`) also builds natively and is tested
//! there; what touches kernel tables and sends packets is for the BPF target.
//!
//! The rules are in `docs/flow-placement.md`; each module names the ones it carries out.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod frame;
pub mod parse;
pub mod plan;
pub mod wire;

#[cfg(target_arch = "bpf")]
pub mod kernel;
