//! The cluster as node "here" sees it: four nodes, and pools whose slots all have the same member, so that a test says by
//! the port which member it wants.

use std::net::{IpAddr, SocketAddr};

use lb_common::geneve::outer_partial_sum;
use lb_common::key::{Front, TCP, UDP};
use lb_common::table::{
    BLOCK, CHAIN, ChainSlot, Flow, HeadBlock, Local, Member, NO_MEMBER, NO_TABLE, Node, Pool, Rev, Settings,
    Uplink, local_state, node_flag, pool_flag,
};
use lb_common::{Address, Plain, V4, V6};

use crate::by_family;
use crate::rig::{Rig, shell};

mod net;

pub use net::{BOTH, Narrow, Net, flow_key, rev_key};

pub const COOKIE: u64 = 0x0123_4567_89ab_cdef;
pub const SEED: u64 = 0x1357_9bdf_0246_8ace;

/// Tags of the nodes.
pub const HERE: u16 = 11;
pub const THERE: u16 = 12;
pub const THIRD: u16 = 13;
/// Its next hop's Ethernet address is not known.
pub const UNRESOLVED: u16 = 14;
/// The cluster does not have it.
pub const STRANGER: u16 = 99;

/// Underlay address of this node.
pub const ADDRESS: V4 = [192, 0, 2, 11];
pub const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 12];
pub const OWN: [u8; 6] = [2, 0, 0, 0, 0, 11];

/// Largest MSS that the cluster's tunnel lets through.
pub const MSS4: u16 = 1388;
pub const MSS6: u16 = 1368;

/// Ports of the frontends, by where their only member is.
pub mod port {
    /// A task of this node; the runner-up is another one of it.
    pub const HERE: u16 = 8080;
    pub const THERE: u16 = 8081;
    /// Nowhere: the pool is empty.
    pub const NOBODY: u16 = 8082;
    pub const UNRESOLVED: u16 = 8083;
    pub const STRANGER: u16 = 8084;
    /// As THERE, by the client's address alone.
    pub const AFFINE: u16 = 8085;
    /// Not a frontend.
    pub const NONE: u16 = 9999;
}

/// Tags of the members.
pub const TASK: u64 = 0xaaaa_0000_0000_0001;
/// The runner-up to [`TASK`], here too.
pub const SECOND: u64 = 0xaaaa_0000_0000_0002;
pub const REMOTE: u64 = 0xbbbb_0000_0000_0001;
const UNRESOLVED_TASK: u64 = 0xcccc_0000_0000_0001;
const STRANGE_TASK: u64 = 0xdddd_0000_0000_0001;

/// Port that tasks listen on.
pub const TARGET: u16 = 80;
/// Numbers of the members in `MEMBER`.
const MEMBERS: [(u64, u16); 5] = [
    (TASK, HERE),
    (SECOND, HERE),
    (REMOTE, THERE),
    (UNRESOLVED_TASK, UNRESOLVED),
    (STRANGE_TASK, STRANGER),
];
/// Slots of every pool.
pub const SLOTS: u32 = BLOCK;

impl Rig {
    /// The entry of a flow in `HALF` or `FLOW`.
    pub fn flow(
        &self,
        table: &str,
        net: Net,
        client: SocketAddr,
        front: SocketAddr,
        protocol: u8,
    ) -> Option<Flow> {
        by_family!(net, A => self.look(&net.map(table), flow_key::<A>(client, front, protocol)))
    }

    /// Frontend and client of an entry in `HALFREV` or `REV`, its node, device and flags.
    pub fn rev(
        &self,
        table: &str,
        net: Net,
        task: SocketAddr,
        client: SocketAddr,
        protocol: u8,
    ) -> Option<(SocketAddr, SocketAddr, u16, u8, u8)> {
        by_family!(net, A => {
            let rev: Rev<A> = self.look(&net.map(table), rev_key::<A>(task, client, protocol))?;
            let socket = |address: A, port| (IpAddr::from(address), u16::from_be_bytes(port)).into();
            Some((
                socket(rev.front, rev.front_port),
                socket(rev.client, rev.client_port),
                rev.node,
                rev.device,
                rev.flags,
            ))
        })
    }

    /// Changes one entry of an array.
    pub fn change<V: Plain>(&mut self, name: &str, index: u32, change: impl FnOnce(&mut V)) {
        let mut value = self.get(name, index);
        change(&mut value);
        self.set(name, index, value);
    }

    /// Changes a member of this node.
    pub fn change_local(&mut self, tag: u64, change: impl FnOnce(&mut Local)) {
        let mut local = self.look("LOCAL", tag).expect("a member of this node");
        change(&mut local);
        self.put("LOCAL", tag, local);
    }

    /// Makes member `number` (an offset in `MEMBER`) the head of every slot of a pool.
    pub fn set_head(&mut self, pool: u32, number: u16) {
        let mut block: HeadBlock = self.get("HEAD", pool);
        block.member = [number; BLOCK as usize];
        self.set("HEAD", pool, block);
    }

    /// Gives every slot of a pool a chain, and when it last changed.
    pub fn set_chain(&mut self, pool: u32, nodes: &[u16], next: u16, changed: u32) {
        let mut chain = ChainSlot {
            next,
            changed,
            ..ChainSlot::default()
        };
        chain.nodes[..nodes.len().min(CHAIN)].copy_from_slice(nodes);
        for slot in 0..SLOTS {
            self.set("CHAIN", pool * SLOTS + slot, chain);
        }
    }
}

/// Offsets in `MEMBER`, as head tables and chains name them.
pub mod number {
    pub const TASK: u16 = 0;
    pub const SECOND: u16 = 1;
    pub const REMOTE: u16 = 2;
}

/// Makes the devices of the node in this thread's namespace, and gives the index of the one that faces the network.
pub fn devices() -> u32 {
    shell(
        "ip link set lo up
         ip link add wire address 02:00:00:00:00:0b type veth peer name wire-peer
         ip link add task0 type veth peer name task0-peer
         for device in wire wire-peer task0 task0-peer; do
             ip link set $device addrgenmode none
             ip link set $device up
         done
         ip address add 192.0.2.11/24 dev wire
         ip address add 2001:db8::11/64 dev wire nodad
         ip address add 172.18.0.1/16 dev task0
         ip address add 2001:db8:18::1/64 dev task0 nodad
         ip neighbour replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev wire nud permanent
         ip neighbour replace 2001:db8::1 lladdr 02:00:00:00:00:01 dev wire nud permanent
         ip route add default via 192.0.2.1
         ip -6 route add default via 2001:db8::1
         echo 1 > /proc/sys/net/ipv4/ip_forward
         echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    nix::net::if_::if_nametoindex("wire").expect("the device just made")
}

/// Index of the host side of the tasks' device.
pub fn task_device() -> u32 {
    nix::net::if_::if_nametoindex("task0").expect("a device of the rig")
}

/// Fills the tables.
pub fn fill(rig: &mut Rig) {
    nodes(rig);
    for (number, (tag, node)) in (0..).zip(MEMBERS) {
        let member = Member {
            tag,
            node,
            ..Member::default()
        };
        rig.set("MEMBER", number, member);
    }
    for net in BOTH {
        for (port, member) in [
            (port::HERE, number::TASK),
            (port::THERE, number::REMOTE),
            (port::NOBODY, NO_MEMBER),
            (port::UNRESOLVED, 3),
            (port::STRANGER, 4),
            (port::AFFINE, number::REMOTE),
        ] {
            pool(rig, net, port, member);
        }
    }
    locals(rig, Net::Four);
    let settings = Settings {
        mss4: MSS4,
        mss6: MSS6,
        chases: 1_000,
        resets: 1_000,
        source6: V6::of(Net::Six.front(0).ip()),
        // For as long as any test takes: what lies ahead has no age.
        alive: crate::relay::now() + 1_000_000,
    };
    rig.set("SETTINGS", 0, settings);
    let (ifindex, xdp) = (rig.wire, node_flag::XDP.into());
    rig.set(
        "UPLINK",
        ifindex & 0xff,
        Uplink {
            ifindex,
            xdp,
            ..Uplink::default()
        },
    );
}

fn nodes(rig: &mut Rig) {
    let all = node_flag::KNOWN | node_flag::RESOLVED | node_flag::XDP;
    for (tag, flags) in [
        (HERE, node_flag::KNOWN),
        (THERE, all),
        (THIRD, all),
        (UNRESOLVED, node_flag::KNOWN),
    ] {
        let address = [192, 0, 2, tag as u8];
        let node = Node {
            address,
            source: ADDRESS,
            next_hop: NEXT_HOP,
            own: OWN,
            ifindex: rig.wire,
            partial_sum: outer_partial_sum(ADDRESS, address),
            mtu: 1500,
            flags,
        };
        rig.set("NODE", tag as u32, node);
        if tag != HERE {
            rig.put("PEER4", address, tag);
        }
    }
}

fn pool(rig: &mut Rig, net: Net, port: u16, member: u16) {
    let number = net.pool(port);
    let pool = Pool {
        id: net.pool_of(port),
        head: number,
        fresh: number,
        chain: if port == port::HERE {
            number * SLOTS
        } else {
            NO_TABLE
        },
        members: 0,
        slots: SLOTS,
        flags: if port == port::AFFINE {
            pool_flag::CLIENT_AFFINITY
        } else {
            0
        },
        empty_since: u32::from(port == port::NOBODY),
        room: MEMBERS.len() as u32,
    };
    rig.set("POOL", number, pool);
    let member = [member; BLOCK as usize];
    rig.set("HEAD", number, HeadBlock { hinted: 0, member });
    if port == port::HERE {
        rig.set_chain(number, &[HERE], number::SECOND, 0);
    }
    for protocol in [TCP, UDP] {
        let front = net.front(port);
        by_family!(net, A => {
            let key = Front::new(A::of(front.ip()), front.port().to_be_bytes(), protocol);
            rig.put(&net.map("FRONT"), key, number);
        });
    }
}

/// Says where the tasks of this node are: a task has one address, so a test chooses the family.
pub fn locals(rig: &mut Rig, net: Net) {
    for (tag, task) in [(TASK, net.task()), (SECOND, net.second())] {
        let address = by_family!(net, A => A::of(task.ip()).widen());
        let local = Local {
            address,
            ifindex: task_device(),
            namespace: -1,
            deaf_since: 0,
            pool: net.pool(port::HERE),
            port: TARGET.to_be_bytes(),
            state: local_state::ACTIVE,
            prefix: if net == Net::Four { 16 } else { 64 },
        };
        rig.put("LOCAL", tag, local);
    }
}
