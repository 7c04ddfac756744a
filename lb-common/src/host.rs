//! What concerns the node's own traffic.

/// The Ethernet address of `portico0`: a packet that carries it there is for this node.
pub const MAC: [u8; 6] = [0x02, b'p', b'o', b'r', b't', b'0'];

/// Value of `OWN`: an address by which this node alone goes.
pub const ALONE: u8 = 1;
/// Value of `OWN`: an address on a bridge of this node's own, which another node's may have as well.
pub const SHARED: u8 = 2;
/// Value of `OWN`: a VIP of this node that is routed into `portico0`.
pub const ROUTED: u8 = 3;

/// Value of `KEPT`: somebody listens there whom the kernel's lookup does not find, or who goes before a placeholder.
pub const KEPT: u8 = 1;
/// Value of `KEPT`: a container engine alone listens there, to hold a port that it publishes, too.
pub const PLACEHOLDER: u8 = 2;

/// Every published port answers here too, to the node's own processes. Nobody's address.
pub const NODE_VIP4: crate::V4 = [169, 254, 20, 11];
/// The same for IPv6, fd70:6f72:7469:636f::11.
pub const NODE_VIP6: crate::V6 = [
    0xfd, 0x70, 0x6f, 0x72, 0x74, 0x69, 0x63, 0x6f, 0, 0, 0, 0, 0, 0, 0, 0x11,
];

/// The one of a family. Tasks in the node's own network namespace see it in place of clients that they cannot be shown.
pub fn node_vip<A: crate::Address>() -> A {
    if size_of::<A>() == size_of::<crate::V4>() {
        A::narrow(crate::Address::widen(NODE_VIP4))
    } else {
        A::narrow(NODE_VIP6)
    }
}
