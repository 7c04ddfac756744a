//! Flow hash and slot: which row of a pool's tables a packet belongs to.
//!
//! Integers only and no state, so that every node, the proxy and `explain` agree. The seed comes from the cluster's
//! secret, so that a stranger cannot aim flows at one slot.

use crate::Address;

/// 32 bits of a flow, spread evenly: client address, both ports as they stand in the packet, protocol.
///
/// `ports` is the packet's source and destination port, four bytes read as little-endian; 0 for an affinity to the
/// client's address alone, and then `protocol` is 0 too.
#[inline(always)]
pub fn flow_hash<A: Address>(seed: u64, client: A, ports: u32, protocol: u8) -> u32 {
    let mut x = (client.fold() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x
        .wrapping_add(((protocol as u64) << 32) | ports as u64)
        .wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    (x.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// The slot of a hash among `slots` (at most 2³¹): multiply and shift, which keeps the verifier's bound and needs no
/// division.
#[inline(always)]
pub const fn slot(hash: u32, slots: u32) -> u32 {
    ((hash as u64 * slots as u64) >> 32) as u32
}

/// 64 bits mixed so that each input bit moves about half of the output bits (the finalizer of Steele, Lea and Flood,
/// "Fast Splittable Pseudorandom Number Generators", 2014).
#[inline(always)]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_always_within_its_table() {
        for slots in [64, 4096, 1 << 20] {
            assert_eq!(slot(0, slots), 0);
            assert_eq!(slot(u32::MAX, slots), slots - 1);
        }
    }

    #[test]
    fn flows_spread_evenly_over_slots_when_only_the_port_changes() {
        let mut filled = [0u32; 64];
        for port in 0..64_000u32 {
            filled[slot(flow_hash(7, [192, 0, 2, 1], port | 80 << 16, 6), 64) as usize] += 1;
        }
        // 1000 expected, standard deviation 32.
        assert!(filled.iter().all(|&n| (840..1160).contains(&n)), "{filled:?}");
    }

    #[test]
    fn the_last_bits_of_an_ipv6_address_move_the_hash() {
        let mut address = [0u8; 16];
        let before = flow_hash(7, address, 0, 0);
        address[15] = 1;
        assert_ne!(before, flow_hash(7, address, 0, 0));
    }
}
