//! The owner's rules: entries, and the packets that the task sees.

use std::net::SocketAddr;

use crate::frame::{Packet, Seen, seen};

mod closing;
mod created;
mod deflected;
mod established;
mod half_open;
mod mss;
mod udp;

/// A client's packet as the task sees it.
fn delivered(packet: &Packet, task: SocketAddr) -> Seen {
    let before = seen(packet);
    Seen {
        to: task,
        hops: before.hops - 1,
        ..before
    }
}
