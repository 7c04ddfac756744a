//! Two nodes in one process: 127.0.0.1 relays to 127.0.0.2, where the tasks are.

mod carrying;
pub mod cluster;
mod datagrams;
mod refusing;
mod sparing;
