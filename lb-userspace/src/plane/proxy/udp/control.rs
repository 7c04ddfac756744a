//! What comes and goes beside a datagram (cmsg(3), ip(7), ipv6(7), udp(7)): the address that was asked, and how large the
//! datagrams are that a super-packet holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{c_int, c_uint, cmsghdr, in_addr, in_pktinfo, in6_addr, in6_pktinfo, msghdr};

/// Room for both notes of a message, aligned as their headers want it.
pub type Space = [u64; 12];

/// What the kernel noted about a datagram that was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The address it was sent to. None where it was not sent to this host alone (broadcast, multicast), and
    /// where the socket does not ask for it.
    pub asked: Option<IpAddr>,
    /// It is several datagrams, all of this size but the last, which may be shorter.
    pub segment: Option<u16>,
}

/// The notes of a received message.
///
/// # Safety
/// `head` is as recvmsg(2) has left it, and the control buffer that it names is still there.
pub unsafe fn read(head: &msghdr) -> Notes {
    let mut notes = Notes::default();
    // SAFETY: by the caller; the kernel has set the length to what it wrote.
    let mut next: *const cmsghdr = unsafe { libc::CMSG_FIRSTHDR(head) };
    while !next.is_null() {
        // SAFETY: the macros that gave the pointer have made sure that a header lies there.
        let note = unsafe { next.read_unaligned() };
        match (note.cmsg_level, note.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: as above; that is what this kind of note holds.
                let info = unsafe { value::<in_pktinfo>(next, &note) };
                notes.asked = info.and_then(|info| {
                    let [asked, own] = [info.ipi_addr, info.ipi_spec_dst].map(v4);
                    // The second is an address to answer from: another one where the first is nobody's in particular.
                    (asked == own).then_some(IpAddr::V4(asked))
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: as above.
                let info = unsafe { value::<in6_pktinfo>(next, &note) };
                let asked = info.map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr));
                notes.asked = asked.filter(|asked| !asked.is_multicast()).map(IpAddr::V6);
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // SAFETY: as above.
                let size = unsafe { value::<c_int>(next, &note) };
                notes.segment = size
                    .and_then(|size| u16::try_from(size).ok())
                    .filter(|size| *size > 0);
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(head, next) };
    }
    notes
}

/// None: the note was cut off.
///
/// # Safety
/// `at` points to a note in a control buffer, whose header is `note`; any bytes are a `T`.
unsafe fn value<T: Copy>(at: *const cmsghdr, note: &cmsghdr) -> Option<T> {
    // SAFETY: arithmetic only.
    let whole = unsafe { libc::CMSG_LEN(size_of::<T>() as c_uint) };
    // SAFETY: the note is as long as that, and the read need not be aligned.
    (note.cmsg_len >= whole as _).then(|| unsafe { libc::CMSG_DATA(at).cast::<T>().read_unaligned() })
}

/// Notes for a message that is to be sent: from which address, and into datagrams of which size it is to be cut. Returns
/// how many bytes of the space they take.
pub fn write(space: &mut Space, source: Option<IpAddr>, segment: Option<u16>) -> usize {
    let mut used = 0;
    match source {
        Some(IpAddr::V4(source)) => {
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr {
                    s_addr: source.to_bits().to_be(),
                },
                ipi_addr: in_addr { s_addr: 0 },
            };
            used = put(space, used, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        Some(IpAddr::V6(source)) => {
            let info = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            used = put(space, used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
        None => {}
    }
    if let Some(segment) = segment {
        used = put(space, used, (libc::SOL_UDP, libc::UDP_SEGMENT), segment);
    }
    used
}

/// Appends a note where the space is used until `at`; returns until where it is used then.
fn put<T: Copy>(space: &mut Space, at: usize, (level, kind): (c_int, c_int), value: T) -> usize {
    let size = size_of::<T>() as c_uint;
    // SAFETY: arithmetic only.
    let (length, taken) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
    assert!(
        at + taken <= size_of::<Space>(),
        "both notes together have room there"
    );
    // SAFETY: of plain numbers, and zero is one; some C libraries have padding between them.
    let mut note: cmsghdr = unsafe { std::mem::zeroed() };
    note.cmsg_len = length as _;
    note.cmsg_level = level;
    note.cmsg_type = kind;
    // SAFETY: header and value end within the space, as was just looked at. It is aligned for headers, and what notes
    // take is a multiple of that alignment.
    unsafe {
        let head = space.as_mut_ptr().byte_add(at).cast::<cmsghdr>();
        head.write(note);
        libc::CMSG_DATA(head).cast::<T>().write_unaligned(value);
    }
    at + taken
}

fn v4(address: in_addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be(address.s_addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(space: &mut Space, used: usize) -> Notes {
        // SAFETY: numbers and pointers, all of which may be zero.
        let mut head: msghdr = unsafe { std::mem::zeroed() };
        head.msg_control = space.as_mut_ptr().cast();
        head.msg_controllen = used as _;
        // SAFETY: the space is there, and holds what was written.
        unsafe { read(&head) }
    }

    #[test]
    fn an_ipv6_address_is_read_as_it_was_written() {
        let mut space = Space::default();
        let asked = IpAddr::V6("2001:db8::7".parse().unwrap());
        let used = write(&mut space, Some(asked), Some(1200));
        assert_eq!(noted(&mut space, used).asked, Some(asked));
        // One that was cut off, as its length tells, says nothing.
        space[0] = 20;
        assert_eq!(noted(&mut space, 20), Notes::default());
    }

    #[test]
    fn a_datagram_to_more_than_this_host_names_no_address() {
        let mut space = Space::default();
        let info = in_pktinfo {
            ipi_ifindex: 1,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes([192, 0, 2, 1]),
            },
            ipi_addr: in_addr {
                s_addr: u32::from_ne_bytes([255, 255, 255, 255]),
            },
        };
        let used = put(&mut space, 0, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        assert_eq!(noted(&mut space, used), Notes::default());
        let group = IpAddr::V6("ff02::1".parse().unwrap());
        let used = write(&mut space, Some(group), None);
        assert_eq!(noted(&mut space, used), Notes::default());
    }

    #[test]
    fn the_size_of_merged_datagrams_is_read() {
        let mut space = Space::default();
        let used = put(&mut space, 0, (libc::SOL_UDP, libc::UDP_GRO), 1400 as c_int);
        assert_eq!(noted(&mut space, used).segment, Some(1400));
    }
}
