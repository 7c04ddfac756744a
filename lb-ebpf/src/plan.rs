//! What the measuring programs (`src/bench.rs`) are told: the packet, and how many flows it shall be of.

use lb_common::Plain;

/// Bytes restored, and of every frame: Ethernet, IPv6 and TCP headers, rounded up to words.
pub const HEADERS: usize = 80;

/// Bytes of the frames that paths carry: the smallest there are on Ethernet.
pub const FRAME: usize = 64;

/// Value of `PLAN`, one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// State of the generator that numbers the flows; it goes through all of them before it repeats.
    pub state: u32,
    /// Flows less one; their number is a power of two.
    pub mask: u32,
    /// Whether it is IPv6.
    pub six: u32,
    pub pad: u32,
    /// As they stand in the frame.
    pub headers: [[u8; 8]; HEADERS / 8],
}

// SAFETY: repr(C), no padding as the size shows, integers and byte arrays only.
unsafe impl Plain for Plan {}
const _: () = assert!(size_of::<Plan>() == 96);

/// Value of `HOP`, one entry: what plain forwarding writes, and where it sends.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// The Ethernet addresses of the next hop and of the device, as they stand in the frame.
    pub addresses: [u8; 12],
    /// Index of the device.
    pub device: u32,
}

// SAFETY: repr(C), no padding as the size shows, integers and byte arrays only.
unsafe impl Plain for Hop {}
const _: () = assert!(size_of::<Hop>() == 16);

impl Plan {
    /// The source address of flow `number`: an IPv4 address, or the end of an IPv6 address.
    #[inline(always)]
    pub const fn source(number: u32) -> [u8; 4] {
        (0x0a00_0000 | number).to_be_bytes()
    }

    /// The IPv4 identification that goes with it: the sum of its words and this is the same for every flow, and so is the
    /// header's checksum.
    #[inline(always)]
    pub const fn identification(number: u32) -> [u8; 2] {
        let [a, b, c, d] = Self::source(number);
        let sum = u16::from_be_bytes([a, b]) as u32 + u16::from_be_bytes([c, d]) as u32;
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    }

    /// Number of the next flow (Knuth's line 26: a full period for any power of two).
    #[inline(always)]
    pub const fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.state & self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_comes_once_before_any_comes_again() {
        let mut plan = Plan {
            state: 7,
            mask: 1023,
            six: 0,
            pad: 0,
            headers: [[0; 8]; HEADERS / 8],
        };
        let mut seen = [false; 1024];
        for _ in 0..1024 {
            let flow = plan.next() as usize;
            assert!(!seen[flow]);
            seen[flow] = true;
        }
    }
}
