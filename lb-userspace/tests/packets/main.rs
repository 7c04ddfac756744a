//! Packets through the loaded programs: BPF_PROG_TEST_RUN on a node of a small cluster, in a network namespace that goes
//! with the test's thread. Nothing of the machine is touched.
//!
//! The rules are in `docs/flow-placement.md`; each test is one claim about them. They need root: without it they fail in
//! CI and say SKIPPED elsewhere.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cluster;
mod extended;
mod fragments;
mod frame;
mod handshake;
mod hints;
mod host;
mod host_task;
mod icmp;
mod inside;
mod judge;
mod listening;
mod lookup;
mod malformed;
mod owner;
mod proxied;
mod recovered;
mod relay;
mod replies;
mod rig;
mod scoped;
mod scoped_ways;
mod stay;
mod task;
mod trace;
mod tunnel;
mod unknown;
mod weight;
