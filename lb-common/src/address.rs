//! The two address families, as the packet path sees them.

/// An IPv4 address in network order.
pub type V4 = [u8; 4];
/// An IPv6 address in network order.
pub type V6 = [u8; 16];

/// What the placement and the tables need of an address family.
pub trait Address: Copy + PartialEq + 'static {
    /// The address as 64 bits, the same on every machine; distinct IPv4 addresses give distinct values.
    fn fold(self) -> u64;

    /// The address as a member's 16 bytes: IPv4 first, then zeroes.
    fn widen(self) -> V6;

    /// The reverse of [`widen`](Self::widen).
    fn narrow(wide: V6) -> Self;
}

impl Address for V4 {
    #[inline(always)]
    fn fold(self) -> u64 {
        u32::from_le_bytes(self) as u64
    }

    #[inline(always)]
    fn widen(self) -> V6 {
        let [a, b, c, d] = self;
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn narrow(wide: V6) -> Self {
        let [a, b, c, d, ..] = wide;
        [a, b, c, d]
    }
}

impl Address for V6 {
    #[inline(always)]
    fn fold(self) -> u64 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self;
        let high = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let low = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
        (high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (high >> 29))
            .wrapping_add(low)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[inline(always)]
    fn widen(self) -> V6 {
        self
    }

    #[inline(always)]
    fn narrow(wide: V6) -> Self {
        wide
    }
}
