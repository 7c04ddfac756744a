//! Constants that the loader fills in before the programs are verified: the verifier sees them as numbers.

use aya_ebpf::Global;
use lb_common::V4;

/// Tag of this node.
#[unsafe(no_mangle)]
static SELF_NODE: Global<u16> = Global::new(0);
/// Underlay address of this node.
#[unsafe(no_mangle)]
static SELF_ADDRESS: Global<V4> = Global::new([0; 4]);
/// The cluster's cookie in the Geneve option.
#[unsafe(no_mangle)]
static COOKIE: Global<u64> = Global::new(0);
/// Seed of the flow hash.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);
/// `BPF_F_IPV6` where the kernel knows it (6.16), else 0: keeps `CHECKSUM_COMPLETE` right for IPv6.
#[unsafe(no_mangle)]
static IPV6_CSUM_FLAG: Global<u64> = Global::new(0);
/// Cookie of the network namespace that the agent runs in: the node's own.
#[unsafe(no_mangle)]
static HOST_NETNS: Global<u64> = Global::new(0);
/// Port of the name server that sockets are steered to, by family, in network order; 0 where there is none.
#[unsafe(no_mangle)]
static DNS_PORT4: Global<[u8; 2]> = Global::new([0; 2]);
#[unsafe(no_mangle)]
static DNS_PORT6: Global<[u8; 2]> = Global::new([0; 2]);

#[inline(always)]
pub fn self_node() -> u16 {
    SELF_NODE.load()
}

#[inline(always)]
pub fn self_address() -> V4 {
    SELF_ADDRESS.load()
}

#[inline(always)]
pub fn cookie() -> u64 {
    COOKIE.load()
}

#[inline(always)]
pub fn seed() -> u64 {
    SEED.load()
}

#[inline(always)]
pub fn ipv6_csum_flag() -> u64 {
    IPV6_CSUM_FLAG.load()
}

#[inline(always)]
pub fn host_netns() -> u64 {
    HOST_NETNS.load()
}

#[inline(always)]
pub fn dns_port4() -> [u8; 2] {
    DNS_PORT4.load()
}

#[inline(always)]
pub fn dns_port6() -> [u8; 2] {
    DNS_PORT6.load()
}
