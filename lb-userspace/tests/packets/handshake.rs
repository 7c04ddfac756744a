//! How a connection begins, up to where a test takes it on.

use std::net::SocketAddr;

use lb_common::Verdict;

use crate::cluster::Net;
use crate::frame::{ACK, Packet, SYN};
use crate::rig::Rig;

/// First sequence number of a task's answer.
pub const ISN: u32 = 0xffff_ff00;

/// A client's SYN, delivered to a task of this node.
#[track_caller]
pub fn begin(rig: &mut Rig, client: SocketAddr, front: SocketAddr) {
    rig.uplink(&Packet::syn(client, front).frame())
        .sent(Verdict::Delivered);
}

/// As [`begin`], and the task's answer.
#[track_caller]
pub fn accept(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr) {
    begin(rig, client, front);
    rig.task(&answer(net, client).frame()).sent(Verdict::Replied);
}

/// As [`accept`], and the client's first acknowledgement.
#[track_caller]
pub fn establish(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr) {
    accept(rig, net, client, front);
    rig.uplink(&acknowledge(client, front, ISN.wrapping_add(1)).frame())
        .sent(Verdict::Delivered);
}

/// The task's SYN-ACK.
pub fn answer(net: Net, client: SocketAddr) -> Packet {
    Packet {
        sequence: ISN,
        options: vec![2, 4, 0x05, 0xb4],
        ..Packet::tcp(net.task(), client, SYN | ACK)
    }
}

/// The client's acknowledgement of everything before `acknowledgement`.
pub fn acknowledge(client: SocketAddr, front: SocketAddr, acknowledgement: u32) -> Packet {
    Packet {
        acknowledgement,
        ..Packet::tcp(client, front, ACK)
    }
}
