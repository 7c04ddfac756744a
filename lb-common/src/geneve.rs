//! Geneve between nodes (RFC 8926): the client's packet, untouched, behind one option of ours.
//!
//! ```text
//!  IPv4 20 | UDP 8 | Geneve 8 | option header 4 | data 32 | the client's IP packet
//! ```

use crate::table::CHAIN;
use crate::{Plain, V4};

/// UDP port of Geneve.
pub const PORT: u16 = 6081;
/// Option class, from the range for experiments (RFC 8926, section 9).
pub const CLASS: u16 = 0xff01;
/// Option type. The critical bit (0x80) is set: whoever does not know it must drop the packet.
pub const TYPE: u8 = 0x81;
/// What encapsulation adds to an IP packet: outer IPv4, UDP, Geneve, option.
pub const OVERHEAD: usize = 20 + size_of::<Tunnel>();

/// Bits of [`Tunnel::flags`].
pub mod flag {
    /// Sent along the chain; `list` is what remains of it.
    pub const CHASED: u8 = 1;
    /// A new connection that its first owner could not take.
    pub const MOVED: u8 = 2;
    /// Whoever finds `list` empty and has no entry makes one (UDP).
    pub const CREATE: u8 = 4;
    /// A task's reply: goes out to the client, never balanced again.
    pub const REPLY: u8 = 8;
    /// The sender of this reply holds the flow, although the slot's head is elsewhere.
    pub const REHINT: u8 = 16;
    /// The client's address means something on the ingress node only: it is a task or container behind a bridge, and
    /// another node may have one of the same address.
    pub const SCOPED: u8 = 32;
}

/// UDP header, Geneve header and our option, as they stand on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub source_port: [u8; 2],
    pub port: [u8; 2],
    pub udp_length: [u8; 2],
    /// Always 0: allowed over IPv4 (RFC 8926, section 3.3), and the inner packet has its own.
    pub udp_checksum: [u8; 2],
    pub version_and_option_words: u8,
    /// O and C bits.
    pub control: u8,
    /// EtherType of the inner packet.
    pub protocol: [u8; 2],
    /// Low 24 bits of the pool's id, 0 in a reply. The owner compares it: views of a frontend may differ for a while.
    pub vni: [u8; 3],
    pub reserved: u8,
    pub class: [u8; 2],
    pub option_type: u8,
    pub option_words: u8,
    /// The cluster's cookie, in the sender's byte order of [`u64::to_be_bytes`].
    pub cookie: [u8; 8],
    /// Tag of the member meant, big-endian.
    pub member: [u8; 8],
    /// Tag of the ingress node, big-endian; in a reply, of the sender.
    pub ingress: [u8; 2],
    /// Low byte of the device index at the ingress.
    pub device: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Tags of the nodes still to ask, big-endian; 0 ends the list.
    pub list: [[u8; 2]; CHAIN],
}

const _: () = assert!(size_of::<Tunnel>() == 52 && OVERHEAD == 72 && align_of::<Tunnel>() == 1);
// SAFETY: repr(C), alignment 1, byte arrays only.
unsafe impl Plain for Tunnel {}

/// Why a packet to the Geneve port is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// Version, option lengths, class, type or inner protocol.
    Format,
    Cookie,
}

impl Tunnel {
    /// The words of the Geneve header that say how many option words follow: 9 of 4 bytes.
    const OPTION_WORDS: u8 = 9;

    /// A header for an inner IP packet of `inner` bytes and EtherType `protocol`; `entropy` spreads the packets of
    /// different flows over the paths between nodes (RFC 8926, section 3.3).
    #[inline(always)]
    pub const fn new(cookie: u64, protocol: u16, inner: u16, entropy: u16, pool: u64) -> Self {
        let [_, _, _, _, _, a, b, c] = pool.to_be_bytes();
        Self {
            source_port: (entropy | 0xc000).to_be_bytes(),
            port: PORT.to_be_bytes(),
            udp_length: inner.wrapping_add(size_of::<Self>() as u16).to_be_bytes(),
            udp_checksum: [0; 2],
            version_and_option_words: Self::OPTION_WORDS,
            control: 0x40,
            protocol: protocol.to_be_bytes(),
            vni: [a, b, c],
            reserved: 0,
            class: CLASS.to_be_bytes(),
            option_type: TYPE,
            option_words: 8,
            cookie: cookie.to_be_bytes(),
            member: [0; 8],
            ingress: [0; 2],
            device: 0,
            flags: 0,
            list: [[0; 2]; CHAIN],
        }
    }

    /// The header as words of the machine, in the order of the wire. Written one by one, a run of zero bytes does not
    /// become a call in the kernel programs.
    #[inline(always)]
    pub const fn words(&self) -> [u32; size_of::<Self>() / 4] {
        // SAFETY: `Tunnel` is `Plain`: no padding, every byte initialised, and of this size.
        unsafe { core::mem::transmute(*self) }
    }

    /// Checks everything a stranger could have got wrong; lengths are the caller's.
    #[inline(always)]
    pub fn check(&self, cookie: u64) -> Result<(), NotOurs> {
        let header = self.version_and_option_words == Self::OPTION_WORDS && self.control & 0x80 == 0;
        let option = self.class == CLASS.to_be_bytes() && self.option_type == TYPE && self.option_words == 8;
        let inner = matches!(u16::from_be_bytes(self.protocol), 0x0800 | 0x86dd);
        if !(header && option && inner) {
            return Err(NotOurs::Format);
        }
        if self.cookie != cookie.to_be_bytes() {
            return Err(NotOurs::Cookie);
        }
        Ok(())
    }
}

/// Sum of the 16-bit words, in memory order, of the outer IPv4 header from `source` to `destination` with TOS and
/// total length left out: [`Node::partial_sum`](crate::table::Node::partial_sum).
pub fn outer_partial_sum(source: V4, destination: V4) -> u32 {
    let mut header = [0u8; 20];
    header[0] = 0x45;
    header[6] = 0x40; // do not fragment
    header[8] = 64;
    header[9] = crate::key::UDP;
    header[12..16].copy_from_slice(&source);
    header[16..20].copy_from_slice(&destination);
    crate::checksum::sum(&header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_made_here_is_accepted_here() {
        let tunnel = Tunnel::new(0x0102_0304_0506_0708, 0x86dd, 100, 7, 0xabcdef);
        assert_eq!(tunnel.check(0x0102_0304_0506_0708), Ok(()));
        assert_eq!(tunnel.vni, [0xab, 0xcd, 0xef]);
        assert_eq!(tunnel.udp_length, 152u16.to_be_bytes());
        assert_eq!(tunnel.check(1), Err(NotOurs::Cookie));
    }

    #[test]
    fn other_options_and_protocols_are_not_ours() {
        let ours = Tunnel::new(1, 0x0800, 100, 7, 0);
        for wrong in [
            Tunnel {
                version_and_option_words: 0x49,
                ..ours
            },
            Tunnel {
                version_and_option_words: 8,
                ..ours
            },
            Tunnel {
                control: 0x80,
                ..ours
            },
            Tunnel {
                protocol: [0x65, 0x58],
                ..ours
            },
            Tunnel {
                class: [0, 0],
                ..ours
            },
            Tunnel {
                option_type: 1,
                ..ours
            },
            Tunnel {
                option_words: 7,
                ..ours
            },
        ] {
            assert_eq!(wrong.check(1), Err(NotOurs::Format), "{wrong:?}");
        }
    }

    /// RFC 8926, section 3.4 and 3.5: what a dissector that knows nothing of us must find where it looks for it.
    #[test]
    fn rfc8926_section_3_4_fields_are_where_they_belong() {
        let tunnel = Tunnel {
            member: 0x1122_3344_5566_7788u64.to_be_bytes(),
            ingress: [0x99, 0xaa],
            device: 0xbb,
            flags: flag::CHASED,
            list: [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]],
            ..Tunnel::new(0x0102_0304_0506_0708, 0x0800, 1388, 0x1234, 0xabcdef)
        };
        let wire = bytes(&tunnel);
        assert_eq!(wire[2..4], [0x17, 0xc1]); // destination port 6081
        assert_eq!(u16::from_be_bytes([wire[4], wire[5]]), 1388 + 52);
        assert_eq!(wire[6..8], [0, 0]);
        assert_eq!(wire[8] >> 6, 0); // version
        assert_eq!((wire[8] & 0x3f) as usize * 4, wire.len() - 16); // option length
        assert_eq!(wire[9], 0x40); // not O; C: the option is critical
        assert_eq!(wire[10..12], [0x08, 0x00]);
        assert_eq!(wire[12..16], [0xab, 0xcd, 0xef, 0]);
        assert_eq!(wire[16..18], [0xff, 0x01]);
        assert_eq!(wire[18] & 0x80, 0x80); // critical
        assert_eq!((wire[19] & 0x1f) as usize * 4, wire.len() - 20);
        assert_eq!(wire[20..28], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(wire[28..36], [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        assert_eq!(wire[36..40], [0x99, 0xaa, 0xbb, flag::CHASED]);
        assert_eq!(wire[40..52], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn an_outer_header_and_its_prepared_sum_agree() {
        let (source, destination) = ([192, 0, 2, 11], [192, 0, 2, 12]);
        let mut header = [
            0x45, 0xb8, 0x05, 0xdc, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 11, 192, 0, 2, 12,
        ];
        let rest = crate::checksum::sum(&[0, 0xb8, 0x05, 0xdc]);
        let checksum = !crate::checksum::fold(outer_partial_sum(source, destination) + rest);
        header[10..12].copy_from_slice(&checksum.to_ne_bytes());
        assert_eq!(crate::checksum::fold(crate::checksum::sum(&header)), 0xffff);
    }

    fn bytes(tunnel: &Tunnel) -> [u8; size_of::<Tunnel>()] {
        // SAFETY: `Tunnel` is `Plain`: no padding, every byte initialised, and of this size.
        unsafe { core::mem::transmute(*tunnel) }
    }

    fn tunnel(wire: [u8; size_of::<Tunnel>()]) -> Tunnel {
        // SAFETY: `Tunnel` is `Plain`: every bit pattern is a valid value, and of this size.
        unsafe { core::mem::transmute(wire) }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_accepted_with_the_same_cookie_only(
            cookie: u64, other: u64, six: bool, inner: u16, entropy: u16, pool: u64,
        ) {
            let protocol = if six { 0x86dd } else { 0x0800 };
            let made = Tunnel::new(cookie, protocol, inner, entropy, pool);
            prop_assert_eq!(made.check(cookie), Ok(()));
            prop_assert_eq!(made.check(other).is_ok(), cookie == other);
            // The private range of RFC 6335, section 6.
            prop_assert!(u16::from_be_bytes(made.source_port) >= 0xc000);
        }

        #[test]
        fn random_bytes_are_never_ours(wire: [u8; size_of::<Tunnel>()], cookie: u64) {
            prop_assert!(tunnel(wire).check(cookie).is_err());
        }

        #[test]
        fn one_wrong_bit_in_what_names_the_format_is_noticed(at in 8usize..28, bit in 0u32..8, cookie: u64) {
            let mut wire = bytes(&Tunnel::new(cookie, 0x0800, 100, 7, 0));
            wire[at] ^= 1 << bit;
            let expected = match at {
                20.. => Err(NotOurs::Cookie),
                // Unused bits of the control byte, the VNI and its reserved byte are for others (RFC 8926, section 3.4).
                9 if bit != 7 => Ok(()),
                12..16 => Ok(()),
                _ => Err(NotOurs::Format),
            };
            prop_assert_eq!(tunnel(wire).check(cookie), expected);
        }
    }
}
