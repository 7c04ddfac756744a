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
    use proptest::prelude::*;

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

    /// The kernel programs of every node must agree with these, whatever they were built with.
    #[test]
    fn hashes_never_change() {
        let ports = u32::from_le_bytes([0xc0, 0x00, 0x1f, 0x90]);
        let six = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];
        for (found, expected) in [
            (flow_hash(0, [0u8; 4], 0, 0), 0),
            (
                flow_hash(0x0123_4567_89ab_cdef, [192, 0, 2, 1], ports, 6),
                0xca05_38af,
            ),
            (
                flow_hash(0x0123_4567_89ab_cdef, [192, 0, 2, 1], ports, 17),
                0x6e74_5dd9,
            ),
            (
                flow_hash(0x0123_4567_89ab_cdef, [192, 0, 2, 1], 0, 0),
                0xd69a_ad7c,
            ),
            (flow_hash(0x0123_4567_89ab_cdef, six, ports, 6), 0x3ee7_387f),
        ] {
            assert_eq!(found, expected, "{found:#x}");
        }
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
    }

    /// Chi-squared over 64 slots: 63 degrees of freedom, 120 is exceeded once in 40,000 times by chance.
    fn is_even(hashes: impl Iterator<Item = u32>) -> bool {
        let (mut filled, mut total) = ([0u64; 64], 0u64);
        for hash in hashes {
            filled[slot(hash, 64) as usize] += 1;
            total += 1;
        }
        let square: u64 = filled.iter().map(|&n| (n * 64).abs_diff(total).pow(2)).sum();
        square / (64 * total) < 120
    }

    #[test]
    fn clients_of_one_network_spread_evenly() {
        for seed in 0..8 {
            let host = |n: u32| (0x0a00_0000 + n).to_be_bytes();
            assert!(
                is_even((0..65_536).map(|n| flow_hash(seed, host(n), 0, 0))),
                "seed {seed}"
            );
            assert!(
                is_even((0..65_536).map(|n| flow_hash(seed, host(n), 0x5000_3930, 6))),
                "seed {seed}"
            );
            let host = |n: u32| {
                let [a, b, c, d] = n.to_be_bytes();
                [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, a, b, 0, 0, 0, 0, c, d]
            };
            assert!(
                is_even((0..65_536).map(|n| flow_hash(seed, host(n), 0, 0))),
                "seed {seed}"
            );
            assert!(
                is_even((0..65_536).map(|n| flow_hash(seed, host(n << 12), 0, 0))),
                "seed {seed}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_slot_is_within_any_table(hash: u32, bits in 0u32..=31) {
            prop_assert!(slot(hash, 1 << bits) < 1 << bits);
        }

        #[test]
        fn larger_tables_split_slots_and_never_mix_them(hash: u32, bits in 6u32..20) {
            prop_assert_eq!(slot(hash, 1 << (bits + 1)) >> 1, slot(hash, 1 << bits));
        }

        #[test]
        fn every_field_of_a_flow_counts(seed: u64, client: [u8; 4], ports: u32, protocol: u8, bit in 0u32..32) {
            // 32 bits collide by chance once in 2³²; four slots' worth of seeds must not.
            let hash = |seed, client: [u8; 4], ports, protocol| {
                [0u64, 1, 2, 3].map(|n| flow_hash(mix(seed ^ n), client, ports, protocol))
            };
            let before = hash(seed, client, ports, protocol);
            let other = (u32::from_be_bytes(client) ^ 1 << bit).to_be_bytes();
            prop_assert_ne!(before, hash(seed, other, ports, protocol));
            prop_assert_ne!(before, hash(seed, client, ports ^ 1 << bit, protocol));
            prop_assert_ne!(before, hash(seed, client, ports, protocol ^ 1 << (bit % 8)));
            prop_assert_ne!(before, hash(!seed, client, ports, protocol));
        }

        #[test]
        fn mix_loses_nothing(a: u64, b: u64) {
            prop_assert_eq!(a == b, mix(a) == mix(b));
        }
    }
}
