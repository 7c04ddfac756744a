//! What is malformed is never sent on, and every drop is counted under its reason.

use crate::cluster::{Net, port};
use crate::frame::{ACK, Packet};

mod cut;
mod fields;
mod random;

/// Packets of every kind that concerns us: to a task here, to one elsewhere, to nobody.
pub fn kinds(net: Net) -> Vec<Packet> {
    let client = net.client();
    let mut kinds = Vec::new();
    for port in [port::HERE, port::THERE, port::NOBODY] {
        let front = net.front(port);
        kinds.push(Packet::syn(client, front));
        kinds.push(Packet::tcp(client, front, ACK).payload(b"data"));
        kinds.push(Packet::udp(client, front));
    }
    kinds
}
