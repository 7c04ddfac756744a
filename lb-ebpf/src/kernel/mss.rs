//! MSS clamping on SYN and SYN-ACK (RFC 9293, section 3.7.1).

use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes};
use lb_common::checksum::Difference;

use super::skb::Skb;
use crate::frame::Frame;
use crate::parse::L4_MASK;
use crate::wire::{TCP_CHECKSUM, Tcp};

/// Options looked at before giving up: MSS is among the first in practice.
const OPTIONS: usize = 6;

/// Lowers the MSS option of the segment whose TCP header is at `l4` to `limit`, if it is higher; 0 is no limit. A
/// segment without the option is left alone (its sender must assume 536).
#[inline(never)]
pub fn clamp(skb: Skb, l4: u32, limit: u16) -> u32 {
    if limit == 0 {
        return 0;
    }
    let l4 = l4 as usize & L4_MASK;
    let Some(tcp) = skb.at::<Tcp>(l4) else { return 0 };
    let end = l4 + (tcp.words >> 4) as usize * 4;
    let mut option = l4 + size_of::<Tcp>();
    for _ in 0..OPTIONS {
        let at = option & 0x3ff;
        if at + 4 > end {
            return 0;
        }
        let mut bytes = [0u8; 4];
        // SAFETY: four bytes into a buffer of four; the helper checks the offset.
        if unsafe { bpf_skb_load_bytes(skb.raw().cast(), at as u32, bytes.as_mut_ptr().cast(), 4) } != 0 {
            return 0;
        }
        let [kind, length, high, low] = bytes;
        match kind {
            0 => return 0,
            1 => option = at + 1,
            2 if length == 4 => {
                if u16::from_be_bytes([high, low]) > limit {
                    lower(skb, l4, at, [high, low], limit.to_be_bytes());
                }
                return 0;
            }
            _ if length < 2 => return 0,
            _ => option = at + length as usize,
        }
    }
    0
}

#[inline(always)]
fn lower(skb: Skb, l4: usize, option: usize, old: [u8; 2], new: [u8; 2]) {
    // The option may stand at an odd offset, where its bytes count the other way round (RFC 1071, section 2).
    let difference = if (option - l4) % 2 == 0 {
        Difference::new().replace2(old, new)
    } else {
        Difference::new().replace2([old[1], old[0]], [new[1], new[0]])
    };
    if skb.checksum(l4 + TCP_CHECKSUM, difference.wide(), 0).is_ok() {
        // SAFETY: two bytes from a buffer of two; the helper checks the offset.
        unsafe { bpf_skb_store_bytes(skb.raw(), option as u32 + 2, new.as_ptr().cast(), 2, 0) };
    }
}
