//! One packet on its way through the rules, in memory of its own: the 512 bytes of a program's stack would not hold it
//! beside everything else.

use lb_common::key::RevKey;
use lb_common::table::{CHAIN, Rev};

use super::globals::self_node;
use crate::parse::Packet;

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
    /// [`Local::ifindex`](lb_common::table::Local::ifindex) of the task that the packet is for.
    pub task: u32,
    /// The device that the packet is about to leave by; 0 where it came in.
    pub leaving: u32,
    /// The task has another connection, or its datagrams have another way, under the client's own port.
    pub taken: bool,
    /// Ticks, see [`lb_common::tick`].
    pub now: u32,
}

/// Where a packet goes.
#[derive(Clone, Copy)]
pub struct Choice {
    /// The slot's member, 0 where the pool has none.
    pub tag: u64,
    pub pool: u32,
    pub slot: u32,
    /// The member's offset from [`Pool::members`](lb_common::table::Pool::members), where an ingress chose it.
    pub member: u32,
    /// The node to send to.
    pub node: u16,
    /// For the outer source port.
    pub entropy: u16,
    /// Low 24 bits of the pool's id.
    pub vni: u32,
    /// [`lb_common::table::pool_flag`] bits of the pool.
    pub flags: u32,
}

/// Source and destination that a packet shall have.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ends<A> {
    pub source: A,
    pub destination: A,
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
}

impl<A: Copy> Ends<A> {
    /// Those of a client's packet as the task sees it.
    #[inline(always)]
    pub fn towards_task(back: &RevKey<A>) -> Self {
        Self {
            source: back.client,
            destination: back.task,
            source_port: back.client_port,
            destination_port: back.task_port,
        }
    }
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
    pub fn blank(&mut self, device: u8) {
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

const _: () = assert!(size_of::<Arrival>() == 24 && core::mem::offset_of!(Arrival, list) % 4 == 0);
