//! The plane without eBPF: sockets of the agent's own, and bytes carried between them.

pub mod header;
pub mod relay;
pub mod udp;
