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
    pub const fn replace16(self, old: [u8; 16], new: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = old;
        let [q, r, s, t, u, v, w, x, y, z, a2, b2, c2, d2, e2, f2] = new;
        self.replace4([a, b, c, d], [q, r, s, t])
            .replace4([e, f, g, h], [u, v, w, x])
            .replace4([i, j, k, l], [y, z, a2, b2])
            .replace4([m, n, o, p], [c2, d2, e2, f2])
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
}
