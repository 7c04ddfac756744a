//! One packet on its way through the rules, in memory of its own: the 512 bytes of a program's stack would not hold it
//! beside everything else.

use lb_common::key::RevKey;
use lb_common::table::{CHAIN, Rev};

use super::choose::Choice;
use super::clock;
use super::fragment;
use super::globals::self_node;
use super::rewrite::Ends;
use super::skb::Skb;
use super::tables::Tables;
use crate::parse::{Packet, Part, sketch};

/// What is known of the packet in hand. One for each CPU and family: programs of one kind do not interrupt each other.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Case<A> {
    pub packet: Packet<A>,
    pub choice: Choice,
    pub arrival: Arrival,
    /// The ends that the packet shall have.
    pub ends: Ends<A>,
    /// The flow's way back, and what is to be kept of it.
    pub back: RevKey<A>,
    pub rev: Rev<A>,
    /// The device of the task that the packet is for.
    pub task: u32,
    /// Ticks, see [`lb_common::tick`].
    pub now: u32,
}

/// What travels with a packet from node to node: the option of `docs/flow-placement.md`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Arrival {
    /// Tag of the member meant.
    pub member: u64,
    /// Ingress node and its device.
    pub node: u16,
    pub device: u8,
    /// [`lb_common::geneve::flag`] bits.
    pub flags: u8,
    /// Nodes still to ask.
    pub list: [u16; CHAIN],
}

impl Arrival {
    /// As of a packet that came in by a device of this node.
    #[inline(always)]
    fn blank(&mut self, device: u8) {
        self.member = 0;
        self.node = self_node();
        self.device = device;
        self.flags = 0;
        let list = (&raw mut self.list).cast::<u32>();
        for word in 0..CHAIN / 2 {
            // Stores that LLVM may not join: what it joins becomes a call that goes byte by byte.
            // SAFETY: within the list, which lies on a word's boundary.
            unsafe { list.add(word).write_volatile(0) };
        }
    }
}

/// Opens the case of a packet that came in by a device of this node; `None` where it cannot concern us.
#[inline(always)]
pub fn open<V: Tables>(skb: Skb, device: u8) -> Option<&'static mut Case<V::Address>> {
    let case = V::case()?;
    if !read::<V>(skb, &mut case.packet) {
        return None;
    }
    case.arrival.blank(device);
    case.now = clock::now();
    Some(case)
}

#[inline(never)]
fn read<V: Tables>(skb: Skb, packet: &mut Packet<V::Address>) -> bool {
    let Some(sketched) = sketch::<V, _>(skb) else {
        return false;
    };
    *packet = sketched;
    packet.part != Part::Later || fragment::complete::<V>(packet)
}

const _: () = assert!(size_of::<Arrival>() == 24 && core::mem::offset_of!(Arrival, list) % 4 == 0);
