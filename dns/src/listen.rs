//! Sockets.

mod batch;
pub(crate) mod tcp;
pub(crate) mod udp;
