//! The programs as they were built with this agent.

/// What the plane loads.
pub static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portico-ebpf"));

/// What `cargo xtask bench packet` puts in front of them; no agent uses it.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portico-bench"));
