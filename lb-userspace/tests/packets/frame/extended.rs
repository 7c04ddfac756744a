//! Frames with more than the plain headers: IPv4 options, IPv6 extension headers, fragments.

use lb_common::checksum::{fold, sum};

use crate::cluster::Net;
use crate::frame::{L3, Packet};

/// The frame with IPv4 options put in.
pub fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[L3] += options.len() as u8 / 4;
    let length = u16::from_be_bytes([frame[L3 + 2], frame[L3 + 3]]) + options.len() as u16;
    frame[L3 + 2..L3 + 4].copy_from_slice(&length.to_be_bytes());
    frame.splice(L3 + 20..L3 + 20, options.iter().copied());
    frame[L3 + 10..L3 + 12].fill(0);
    let sum = sum(&frame[L3..L3 + 20 + options.len()]);
    frame[L3 + 10..L3 + 12].copy_from_slice(&(!fold(sum)).to_ne_bytes());
    frame
}

/// The frame with extension headers (protocol number, bytes) put in, filled with padding options.
pub fn with_extensions(frame: &[u8], extensions: &[(u8, usize)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut next = frame[L3 + 6];
    for &(number, length) in extensions.iter().rev() {
        let mut header = vec![next, (length / 8 - 1) as u8];
        if number == 43 {
            // A routing header with no segment left (RFC 8200, section 4.4).
            header.extend([4, 0]);
            header.resize(length, 0);
        } else {
            header.extend([1, length as u8 - 4]);
            header.resize(length, 0);
        }
        frame.splice(L3 + 40..L3 + 40, header);
        next = number;
    }
    frame[L3 + 6] = next;
    let length = (frame.len() - L3 - 40) as u16;
    frame[L3 + 4..L3 + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A datagram's first or later fragment: `offset` in units of eight bytes, and whether more come.
pub fn fragment(net: Net, port: u16, id: u8, offset: u16, more: bool) -> Vec<u8> {
    let packet = Packet::udp(net.client(), net.front(port)).payload(&[7; 56]);
    let mut frame = packet.frame();
    let l4 = L3 + if net == Net::Four { 20 } else { 40 };
    if offset > 0 {
        // No transport header there.
        frame[l4..].fill(9);
    } else {
        // The datagram is longer than this fragment.
        frame[l4 + 4..l4 + 6].copy_from_slice(&200u16.to_be_bytes());
    }
    match net {
        Net::Four => {
            frame[L3 + 5] = id;
            let field = offset | if more { 0x2000 } else { 0 };
            frame[L3 + 6..L3 + 8].copy_from_slice(&field.to_be_bytes());
            frame[L3 + 10..L3 + 12].fill(0);
            let sum = sum(&frame[L3..l4]);
            frame[L3 + 10..L3 + 12].copy_from_slice(&(!fold(sum)).to_ne_bytes());
        }
        Net::Six => {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            let header = [frame[L3 + 6], 0, high, low, 0, 0, 0, id];
            frame.splice(l4..l4, header);
            frame[L3 + 6] = 44;
            frame[L3 + 5] += 8;
        }
    }
    frame
}
