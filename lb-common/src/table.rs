//! Map values, and the layout of the tables. `docs/flow-placement.md` says what each is for.
//!
//! A *pool* is what one frontend chooses from: the members of a service for one target port and one address family.
//! A frontend leads to a pool, a slot of the pool's head table to a member, a member to its node.

use crate::{Plain, V4, V6, tick};

/// Layout version of all maps, which are pinned under it. There has been no other yet. Whoever changes the layout raises it:
/// maps of another version are never reinterpreted, so the new programs start with empty ones beside them, and connections are
/// lost unless the flows are copied, which is then to be written (`plane/ebpf/migrate.rs` copies within a version only).
pub const LAYOUT: u32 = 1;

/// Beside the pool's number in a value of `FRONT4` or `FRONT6`: it answers inside the cluster only, and not what comes in
/// from the network.
pub const INSIDE: u32 = 1 << 31;
/// The same: what is new goes to this node's proxy. Connections that the packet programs have go on.
pub const GIVEN: u32 = 1 << 30;

/// No member, in a head table; no table, as [`Pool::chain`].
pub const NO_MEMBER: u16 = u16::MAX;
/// Bit of a slot in a head table: its head is a member that only this node's proxy reaches, and the offset beside it that of
/// the member whose node knows best of connections from before.
pub const BY_PROXY: u16 = 1 << 15;
/// The offset beside [`BY_PROXY`] where there is no such member. Also the most members that a pool can have.
pub const NOBODY_ELSE: u16 = BY_PROXY - 2;
/// See [`Pool::chain`].
pub const NO_TABLE: u32 = u32::MAX;
/// Slots in one [`HeadBlock`]; the smallest table.
pub const BLOCK: u32 = 64;
/// Nodes in a chain.
pub const CHAIN: usize = 6;

/// Value of `POOL`, indexed by pool number; `FRONT*` holds that number as a `u32`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Keyed hash of service, target port and family: recognises the pool across restarts; its low 24 bits are the
    /// Geneve VNI.
    pub id: u64,
    /// First block of the head table in `HEAD`.
    pub head: u32,
    /// First block of the head table for new connections: [`head`](Self::head) unless a node is suspected.
    pub fresh: u32,
    /// First entry of the chain table in `CHAIN`, [`NO_TABLE`] where no member of the pool is or lately was here.
    pub chain: u32,
    /// Number of the pool's first member in `MEMBER`; slots hold offsets from it.
    pub members: u32,
    /// Slots: a power of two, 64 to 2²⁰.
    pub slots: u32,
    /// [`pool_flag`] bits.
    pub flags: u32,
    /// Tick since which the pool has had no member at all; 0 while it has one.
    pub empty_since: u32,
    /// Entries of `MEMBER` that belong to the pool.
    pub room: u32,
}

/// Bits of [`Pool::flags`].
pub mod pool_flag {
    /// The client's address alone chooses the slot.
    pub const CLIENT_AFFINITY: u32 = 1;
    /// The frontends are VIPs, not addresses of nodes: any live node may answer from them.
    pub const VIP: u32 = 2;
    /// The node itself may have connections on a port of this pool, as on the very first start, or while its proxy serves any
    /// of it and after that: it is asked first.
    pub const HOST_SOCKETS: u32 = 4;
    /// Every member is reachable under its own address from everywhere: any process may connect to it.
    pub const FLAT: u32 = 8;
    /// Every member runs here: processes of this node's own network namespace may connect to it.
    pub const HERE: u32 = 16;
    /// The cluster has nodes with and without packet programs: `LAST*` keeps where a client's datagrams went.
    pub const MIXED: u32 = 32;
    /// This node's proxy serves the frontends beside packet programs: it keeps the flows that it has.
    pub const SHARED: u32 = 64;
    /// This node's proxy may ask its members in the clients' names: the way back of a flow may be that of a socket.
    pub const TRANSPARENT: u32 = 128;
    /// Never in the table: of a packet whose node is that of a [`Hint`](super::Hint).
    pub const HINTED: u32 = 1 << 30;
    /// Never in the table: of a packet whose slot has [`BY_PROXY`](super::BY_PROXY), or whose frontend is [`GIVEN`](super::GIVEN).
    pub const PROXIED: u32 = 1 << 31;
}

/// Value of `HEAD`: 64 consecutive slots of a pool's head table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBlock {
    /// One bit per slot: some flow of the slot has a hint. Set by the programs, cleared by the agent.
    pub hinted: u64,
    /// Offset of the slot's member from [`Pool::members`], or [`NO_MEMBER`]; see [`BY_PROXY`].
    pub member: [u16; BLOCK as usize],
}

/// Value of `CHAIN`: one slot, on nodes that host the pool.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainSlot {
    /// Tags of the nodes that can hold a flow of this slot, likeliest first, this node included; 0 ends the list.
    pub nodes: [u16; CHAIN],
    /// The member that takes a new connection which the head cannot take: the runner-up, or [`NO_MEMBER`].
    pub next: u16,
    pub pad: u16,
    /// Tick at which the head last changed or a member ranked above it began to drain.
    pub changed: u32,
}

/// Value of `MEMBER`, indexed by number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub tag: u64,
    /// Tag of the node that runs it.
    pub node: u16,
    /// [`member_flag`] bits.
    pub flags: u16,
    pub pad: [u16; 2],
}

/// Bits of [`Member::flags`].
pub mod member_flag {
    /// UDP flows leave it at once, if there is another: it is unhealthy, or on a node without packet programs.
    pub const LEFT: u16 = 1;
}

/// Value of `NODE`, indexed by node tag; tag 0 is no node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Underlay address of the node.
    pub address: V4,
    /// This node's address towards it.
    pub source: V4,
    /// Ethernet addresses of the next hop and of our device; valid with [`node_flag::RESOLVED`].
    pub next_hop: [u8; 6],
    pub own: [u8; 6],
    /// Device towards it, 0 while there is no route.
    pub ifindex: u32,
    /// Sum of the 16-bit words, in memory order, of the outer IPv4 header less TOS and total length.
    pub partial_sum: u32,
    /// Largest IP packet on the way there.
    pub mtu: u16,
    /// [`node_flag`] bits.
    pub flags: u16,
}

/// Bits of [`Node::flags`].
pub mod node_flag {
    /// The cluster has this node. Without it nothing is sent there.
    pub const KNOWN: u16 = 1;
    /// Both Ethernet addresses are filled in.
    pub const RESOLVED: u16 = 2;
    /// An XDP program may redirect into its device.
    pub const XDP: u16 = 4;
    /// Suspected or reported down: replies for it leave by another way where they can.
    pub const DOWN: u16 = 8;
    /// What leaves by its device is redirected there even if it came in by it: `XDP_TX` would leave it lying.
    pub const REDIRECT: u16 = 16;
    /// What leaves by this device is for the node itself: it is the far end of `portico0`.
    pub const HOST: u16 = 32;
    /// The node has no packet programs: what is sent into its tunnel is lost.
    pub const BARE: u16 = 64;
}

/// Value of `LOCAL`, keyed by member tag: a member whose task runs on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The task's address; see [`Address::widen`](crate::Address::widen).
    pub address: V6,
    /// Host side of the task's device; 0 until it is found ("not hooked up"). A task in the node's own network namespace has
    /// none: [`HOST_TASK`], and with it the index of `portico1` where clients that it cannot be shown come to it by `portico0`.
    pub ifindex: u32,
    /// Id of the task's network namespace as this namespace knows it, or one of [`namespace`].
    pub namespace: i32,
    /// Tick since which the task has not been listening, 0 while it is. Written by the programs.
    pub deaf_since: u32,
    /// The pool it belongs to.
    pub pool: u32,
    /// Target port.
    pub port: [u8; 2],
    /// [`local_state`].
    pub state: u8,
    /// Length of the task's own subnet: a client inside it cannot keep its address, since the task would answer it
    /// on the link.
    pub prefix: u8,
}

/// Bit of [`Local::ifindex`]: the task runs in the node's own network namespace. No index is as large.
pub const HOST_TASK: u32 = 1 << 31;

/// Values of [`Local::namespace`] that are no id.
pub mod namespace {
    pub const UNKNOWN: i32 = -1;
    /// The node's own. To the kernel's lookups every negative number is the namespace that the program runs in.
    pub const OWN: i32 = -2;
}

/// Values of [`Local::state`].
pub mod local_state {
    pub const WARMING: u8 = 0;
    pub const ACTIVE: u8 = 1;
    /// Takes no new connection unless no member is active.
    pub const DRAINING: u8 = 2;
    /// As draining; and UDP flows, which have no end to wait for, leave it at once.
    pub const UNHEALTHY: u8 = 3;
}

/// Value of `HALF*` and `FLOW*`, by [`FlowKey`](crate::key::FlowKey).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Tag of the member that holds the flow; not in `LOCAL`, the entry counts as absent.
    pub tag: u64,
    /// First sequence number of the task's SYN-ACK, valid with [`flow_state::ANSWERED`].
    pub isn: u32,
    /// Tick of the last packet from the client, or of the task's last word that it still has the socket.
    pub tick: u32,
    /// The port that the task sees the client under.
    pub client_port: [u8; 2],
    /// Ingress node of the last packet from the client.
    pub node: u16,
    /// Low byte of the ingress node's device index, see [`Uplink`].
    pub device: u8,
    /// [`flow_state`] bits.
    pub state: u8,
    pub pad: [u8; 2],
}

/// Bits of [`Flow::state`].
pub mod flow_state {
    pub const FIN_CLIENT: u8 = 1;
    pub const FIN_TASK: u8 = 2;
    pub const RESET: u8 = 4;
    /// The task has answered: [`Flow::isn`](super::Flow::isn) is known.
    pub const ANSWERED: u8 = 8;
    /// The task sees this node's address (`SELF_ADDRESS`, [`Settings::source6`](super::Settings::source6)) in place of
    /// the client's.
    pub const TRANSLATED: u8 = 16;

    /// Neither side expects more, as far as the wire showed: both FINs, or a reset.
    #[inline(always)]
    pub const fn is_closing(state: u8) -> bool {
        state & RESET != 0 || state & (FIN_CLIENT | FIN_TASK) == FIN_CLIENT | FIN_TASK
    }
}

/// Value of `REV*` and `HALFREV*`, by [`RevKey`](crate::key::RevKey): what a reply needs, without a second lookup.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rev<A> {
    pub front: A,
    /// The client's own address.
    pub client: A,
    pub front_port: [u8; 2],
    /// The client's own port.
    pub client_port: [u8; 2],
    /// Tick of the last packet from the task.
    pub tick: u32,
    /// Return node and device, as [`Flow::node`] and [`Flow::device`].
    pub node: u16,
    pub device: u8,
    /// [`rev_flag`] bits.
    pub flags: u8,
    /// See [`FlowKey::realm`](crate::key::FlowKey::realm).
    pub realm: u16,
    pub pad: [u8; 2],
}

/// Bits of [`Rev::flags`].
pub mod rev_flag {
    /// The next reply tells the ingress where the flow is.
    pub const REHINT: u8 = 1;
}

/// Value of `HINT*`, by [`FlowKey`](crate::key::FlowKey).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Tag of the node that holds the flow.
    pub node: u16,
    pub pad: u16,
    /// Tick at which it was stored.
    pub tick: u32,
}

/// Value of `LAST*`, by [`FlowKey`](crate::key::FlowKey): where the datagrams of a flow went that came in at this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Tag of the member, 0: this node's proxy.
    pub tag: u64,
    /// The member's offset from [`Pool::members`], which it keeps for life.
    pub member: u32,
    /// Tick of the latest datagram: silent for as long as UDP flows may be, they have ended.
    pub tick: u32,
}

/// Value of `UPLINK`, 256 entries: the device whose index ends in this byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    pub ifindex: u32,
    /// [`node_flag::XDP`], [`node_flag::REDIRECT`] and [`node_flag::HOST`], as they are for this device.
    pub xdp: u32,
    /// Family and address of the IPv6 gateway of the device's own default route, as the kernel's `bpf_redir_neigh` has
    /// them; zeroes where it has none. The kernel chooses an IPv6 next hop without regard to the device, and would ask
    /// for another device's gateway there.
    pub family6: u32,
    pub gateway6: V6,
}

/// Value of `SETTINGS`, one entry: what may change while the programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Largest MSS allowed on SYN and SYN-ACK, by family; 0 leaves it alone (a cluster of one node).
    pub mss4: u16,
    pub mss6: u16,
    /// Chases and resets allowed each second, per CPU.
    pub chases: u32,
    pub resets: u32,
    /// This node's IPv6 address for clients that cannot keep theirs; all zero where it has none.
    pub source6: V6,
    /// Tick at which the agent last said that it keeps the tables; 0 until it has carried out a snapshot.
    pub alive: u32,
}

impl Settings {
    /// After this time without an agent nobody is told that his connection does not exist.
    pub const STALE: u32 = tick::from_seconds(5);

    /// Whether the tables may be too old to tell that a connection is nobody's.
    #[inline(always)]
    pub const fn are_stale(&self, now: u32) -> bool {
        tick::elapsed(now, self.alive) > Self::STALE
    }
}

/// Value of `LIMIT`, per CPU and one entry per [`limit`]: what was spent in the current tick.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub tick: u32,
    pub count: u32,
}

/// Indices of `LIMIT`.
pub mod limit {
    pub const CHASES: u32 = 0;
    pub const RESETS: u32 = 1;
}

/// Value of `COUNTER`, per CPU, indexed by [`Verdict`](crate::Verdict).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

macro_rules! plain {
    ($($type:ty = $size:literal),* $(,)?) => {$(
        // SAFETY: repr(C) with explicit padding, as the size shows; integers and byte arrays only.
        unsafe impl Plain for $type {}
        const _: () = assert!(size_of::<$type>() == $size);
    )*};
}

plain! {
    Pool = 40, HeadBlock = 136, ChainSlot = 20, Member = 16, Node = 32, Local = 36, Flow = 24,
    Rev<V4> = 24, Rev<V6> = 48, Hint = 8, Last = 16, Uplink = 28, Settings = 32, Spent = 8, Counter = 16,
}
