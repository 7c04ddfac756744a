//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are of 16-bit words *as they lie in memory*: the one's complement sum does not depend on byte order (RFC 1071,
//! section 2), so nothing is swapped and the result is stored as it is.

/// The sum of a header's words, not folded. An odd last byte is padded with zero.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, word| {
        sum + u16::from_ne_bytes([word[0], word.get(1).copied().unwrap_or(0)]) as u32
    })
}

/// Folds the carries of a sum into 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// What replacing some words of a packet does to its sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference(u64);

impl Difference {
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Two bytes at an even offset were replaced.
    #[inline(always)]
    pub const fn replace2(self, old: [u8; 2], new: [u8; 2]) -> Self {
        Self(self.0 + (!u16::from_ne_bytes(old)) as u64 + u16::from_ne_bytes(new) as u64)
    }

    /// Four bytes at an even offset were replaced.
    #[inline(always)]
    pub const fn replace4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        Self(self.0 + (!u32::from_ne_bytes(old)) as u64 + u32::from_ne_bytes(new) as u64)
    }

    /// An IPv6 address was replaced.
    #[inline(always)]
    pub const fn replace16(self, old: &[u8; 16], new: &[u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *old;
        let [q, r, s, t, u, v, w, x, y, z, a2, b2, c2, d2, e2, f2] = *new;
        self.replace4([a, b, c, d], [q, r, s, t])
            .replace4([e, f, g, h], [u, v, w, x])
            .replace4([i, j, k, l], [y, z, a2, b2])
            .replace4([m, n, o, p], [c2, d2, e2, f2])
    }

    /// The difference that [`wide`](Self::wide) gave.
    #[inline(always)]
    pub const fn of_wide(wide: u32) -> Self {
        Self(wide as u64)
    }

    /// Both differences together.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference as 32 bits with end-around carry: what the kernel's checksum helpers take.
    #[inline(always)]
    pub const fn wide(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum as u32
    }

    /// The checksum after the replacement: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3).
    #[inline(always)]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        let wide = self.wide();
        let sum = (!u16::from_ne_bytes(checksum)) as u32 + (wide & 0xffff) + (wide >> 16);
        (!fold(sum)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 add up to ddf2 with the carries folded in.
    #[test]
    fn rfc1071_section_3_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    /// RFC 1624, section 4: HC dd2f, m 5555 becomes 3285, HC' is 0000 and not ffff.
    #[test]
    fn rfc1624_section_4_example() {
        let update = Difference::new().replace2([0x55, 0x55], [0x32, 0x85]);
        assert_eq!(update.apply([0xdd, 0x2f]), [0x00, 0x00]);
    }

    #[test]
    fn the_largest_packet_does_not_overflow_the_sum() {
        assert_eq!(fold(sum(&[0xff; 65_535])).to_ne_bytes(), [0xff, 0x00]);
        assert_eq!(fold(u32::MAX), u16::MAX);
    }

    /// RFC 1071, section 2 (B): the sum of the words read in the other byte order is the sum, swapped.
    #[test]
    fn rfc1071_section_2_byte_order_does_not_matter() {
        let bytes = [0x45, 0x00, 0x00, 0x73, 0x40, 0x11, 0xc0, 0xa8, 0xff];
        let other: u32 = bytes
            .chunks(2)
            .map(|w| u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)]) as u32)
            .sum();
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), fold(other).to_be_bytes());
    }

    fn checksum(bytes: &[u8]) -> [u8; 2] {
        (!fold(sum(bytes))).to_ne_bytes()
    }

    /// Replaces the bytes at `at` and returns those that were there.
    fn put<const N: usize>(packet: &mut [u8], at: usize, new: [u8; N]) -> [u8; N] {
        let place: &mut [u8; N] = packet[at..].first_chunk_mut().expect("within the packet");
        std::mem::replace(place, new)
    }

    /// Bytes with something in them: a checksummed header always has a version or a protocol number. Only of zeroes
    /// alone is the full sum ffff where the incremental one is 0000, the other zero.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 64..1500).prop_map(|mut packet| {
            packet[63] |= 1;
            packet
        })
    }

    proptest! {
        #[test]
        fn ipv4_translation_by_difference_equals_a_full_sum(
            mut packet in packets(), source: [u8; 4], destination: [u8; 4], ports: [[u8; 2]; 2],
        ) {
            let before = checksum(&packet);
            let difference = Difference::new()
                .replace4(put(&mut packet, 12, source), source)
                .replace4(put(&mut packet, 16, destination), destination)
                .replace2(put(&mut packet, 20, ports[0]), ports[0])
                .replace2(put(&mut packet, 22, ports[1]), ports[1]);
            prop_assert_eq!(difference.apply(before), checksum(&packet));
        }

        #[test]
        fn ipv6_translation_by_difference_equals_a_full_sum(
            mut packet in packets(), source: [u8; 16], destination: [u8; 16], ports: [[u8; 2]; 2],
        ) {
            let before = checksum(&packet);
            let difference = Difference::new()
                .replace16(&put(&mut packet, 8, source), &source)
                .replace16(&put(&mut packet, 24, destination), &destination)
                .replace2(put(&mut packet, 40, ports[0]), ports[0])
                .replace2(put(&mut packet, 42, ports[1]), ports[1]);
            prop_assert_eq!(difference.apply(before), checksum(&packet));
        }

        #[test]
        fn there_and_back_leaves_the_checksum_as_it_was(before: [u8; 2], old: [u8; 16], new: [u8; 16]) {
            // ffff is the one value that no packet's checksum has (RFC 1624, section 3).
            prop_assume!(before != [0xff, 0xff]);
            let there = Difference::new().replace16(&old, &new).apply(before);
            prop_assert_eq!(Difference::new().replace16(&new, &old).apply(there), before);
        }

        #[test]
        fn the_kernel_is_given_the_same_difference(before: [u8; 2], old: [u8; 16], new: [u8; 16]) {
            let difference = Difference::new().replace16(&old, &new);
            let wide = difference.wide().to_ne_bytes();
            // As csum_fold(csum_add(diff, ~check)) does in the kernel.
            let sum = (!u16::from_ne_bytes(before)) as u32;
            let [a, b, c, d] = wide;
            let sum = sum + u16::from_ne_bytes([a, b]) as u32 + u16::from_ne_bytes([c, d]) as u32;
            prop_assert_eq!((!fold(sum)).to_ne_bytes(), difference.apply(before));
        }
    }
}
