//! Sockets.

mod batch;
mod bind;
pub(crate) mod tcp;
pub(crate) mod udp;
