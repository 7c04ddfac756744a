//! Packets that the programs write themselves: IP headers from nothing, and what a checksum's state is.

use lb_common::{V4, V6, Verdict, checksum};

use super::skb::Skb;
use crate::frame::{Frame, L3};
use crate::parse::{Family, Four, Six};
use crate::wire::Ipv4;

/// Writing a whole IP header.
pub trait Header: Family {
    /// ICMP type and code of "too big for the way".
    const TOO_BIG: [u8; 2];

    /// Writes a header for `payload` bytes of `protocol` behind it.
    fn write(
        skb: Skb,
        source: &Self::Address,
        destination: &Self::Address,
        protocol: u8,
        payload: u16,
    ) -> Result<(), Verdict>;

    /// Sum of the pseudo header's words, not folded.
    fn pseudo(source: &Self::Address, destination: &Self::Address, protocol: u8, payload: u16) -> u32;
}

impl Header for Four {
    const TOO_BIG: [u8; 2] = [3, 4];

    #[inline(always)]
    fn write(skb: Skb, source: &V4, destination: &V4, protocol: u8, payload: u16) -> Result<(), Verdict> {
        let length = (size_of::<Ipv4>() as u16 + payload).to_be_bytes();
        let sum = words4(source)
            + words4(destination)
            + word([0x45, 0])
            + word(length)
            + word([0x40, 0])
            + word([64, protocol]);
        let header = Ipv4 {
            version_and_words: 0x45,
            tos: 0,
            length,
            id: [0; 2],
            fragment: [0x40, 0],
            ttl: 64,
            protocol,
            checksum: (!checksum::fold(sum)).to_ne_bytes(),
            source: *source,
            destination: *destination,
        };
        skb.put(L3, header).ok_or(Verdict::Failed)
    }

    #[inline(always)]
    fn pseudo(source: &V4, destination: &V4, protocol: u8, payload: u16) -> u32 {
        words4(source) + words4(destination) + word([0, protocol]) + word(payload.to_be_bytes())
    }
}

impl Header for Six {
    const TOO_BIG: [u8; 2] = [2, 0];

    #[inline(always)]
    fn write(skb: Skb, source: &V6, destination: &V6, protocol: u8, payload: u16) -> Result<(), Verdict> {
        let [high, low] = payload.to_be_bytes();
        skb.put(L3, [0x60, 0, 0, 0, high, low, protocol, 64])
            .ok_or(Verdict::Failed)?;
        skb.put(L3 + 8, *source).ok_or(Verdict::Failed)?;
        skb.put(L3 + 24, *destination).ok_or(Verdict::Failed)
    }

    #[inline(always)]
    fn pseudo(source: &V6, destination: &V6, protocol: u8, payload: u16) -> u32 {
        words16(source) + words16(destination) + word([0, protocol]) + word(payload.to_be_bytes())
    }
}

/// Two bytes of a header, for a sum.
#[inline(always)]
pub fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes) as u32
}

#[inline(always)]
fn words4(&[a, b, c, d]: &V4) -> u32 {
    word([a, b]) + word([c, d])
}

#[inline(always)]
fn words16(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: &V6) -> u32 {
    words4(&[a, b, c, d]) + words4(&[e, f, g, h]) + words4(&[i, j, k, l]) + words4(&[m, n, o, p])
}

/// Whether the checksum is still to be computed by a device (`CHECKSUM_PARTIAL`). No helper tells; but such a checksum
/// ignores a change of the payload. What stands in the field afterwards is of no use.
#[inline(always)]
pub fn is_offloaded(skb: Skb, checksum: usize) -> Result<bool, Verdict> {
    let before: [u8; 2] = skb.at(checksum).ok_or(Verdict::Truncated)?;
    skb.checksum(checksum, 1, 0)?;
    let after: [u8; 2] = skb.at(checksum).ok_or(Verdict::Truncated)?;
    Ok(before == after)
}
