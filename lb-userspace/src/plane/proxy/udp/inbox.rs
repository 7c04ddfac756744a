//! Receiving many datagrams with one system call (recvmmsg(2)).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{iovec, mmsghdr, sockaddr_storage};

use super::control::{self, Space};
use super::counters::Amount;

/// Datagrams, or super-packets of them, that can be held at a time.
pub const SLOTS: usize = 64;
/// No super-packet is larger.
const LARGEST: usize = 65_536;
/// A little more than that: all slots starting at the same place of a page would share few lines of the processor's cache.
/// Of a slot that never held more than a small datagram one page is in memory.
const STRIDE: usize = LARGEST + 64;

/// Buffers for what is received. A worker has one, and carries with it for all frontends.
pub struct Inbox {
    bytes: Box<[u8]>,
    heads: Box<[mmsghdr]>,
    pieces: Box<[iovec]>,
    names: Box<[sockaddr_storage]>,
    spaces: Box<[Space]>,
    arrived: Box<[Arrived]>,
}

/// What lies in one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// None: the socket is connected.
    pub from: Option<SocketAddr>,
    pub asked: Option<IpAddr>,
    pub length: usize,
    /// Of each datagram, where it is several.
    pub segment: Option<u16>,
}

impl Arrived {
    pub fn amount(&self) -> Amount {
        Amount::of(self.length, self.segment)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; SLOTS * STRIDE].into(),
            // SAFETY: of all three: numbers and pointers, all of which may be zero.
            heads: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            // SAFETY: as above.
            pieces: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            // SAFETY: as above.
            names: vec![unsafe { std::mem::zeroed() }; SLOTS].into(),
            spaces: vec![Space::default(); SLOTS].into(),
            arrived: vec![Arrived::default(); SLOTS].into(),
        }
    }
}

impl Inbox {
    /// Receives what is there, at most `most` datagrams, into the slots from `first` on. Returns how many they are: fewer than
    /// asked for when there are no more for now. Does not wait.
    ///
    /// `bound`: from a socket that many send to, so that it must be told who did, and to which address.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        most: usize,
        bound: bool,
    ) -> io::Result<usize> {
        let slots = first.min(SLOTS)..first.saturating_add(most).min(SLOTS);
        let (bytes, heads, pieces) = (
            self.bytes.as_mut_ptr(),
            self.heads.as_mut_ptr(),
            self.pieces.as_mut_ptr(),
        );
        let (names, spaces) = (self.names.as_mut_ptr(), self.spaces.as_mut_ptr());
        for slot in slots.clone() {
            // SAFETY: below SLOTS, which is the length of each array, and SLOTS * STRIDE that of the bytes.
            unsafe {
                pieces.add(slot).write(iovec {
                    iov_base: bytes.add(slot * STRIDE).cast(),
                    iov_len: LARGEST,
                });
                let head = &mut (*heads.add(slot)).msg_hdr;
                head.msg_iov = pieces.add(slot);
                head.msg_iovlen = 1;
                head.msg_control = spaces.add(slot).cast();
                head.msg_controllen = size_of::<Space>() as _;
                head.msg_flags = 0;
                if bound {
                    head.msg_name = names.add(slot).cast();
                    head.msg_namelen = size_of::<sockaddr_storage>() as _;
                } else {
                    head.msg_name = std::ptr::null_mut();
                    head.msg_namelen = 0;
                }
            }
        }
        // SAFETY: so many headers were just filled in, and all that they point to belongs to this inbox.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.add(slots.start),
                slots.len() as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for slot in slots.start..slots.start + received {
            // SAFETY: the kernel has filled these in; name and control buffer are still there.
            self.arrived[slot] = unsafe {
                let head = &(*heads.add(slot));
                let notes = control::read(&head.msg_hdr);
                Arrived {
                    from: if bound { address(&*names.add(slot)) } else { None },
                    asked: notes.asked,
                    length: (head.msg_len as usize).min(LARGEST),
                    segment: notes.segment.filter(|size| head.msg_len > u32::from(*size)),
                }
            };
        }
        Ok(received)
    }

    pub fn arrived(&self, slot: usize) -> &Arrived {
        &self.arrived[slot]
    }

    /// Where in [`bytes`](Self::bytes) a slot's content is.
    pub fn range(&self, slot: usize) -> Range<usize> {
        let start = slot * STRIDE;
        start..start + self.arrived[slot].length
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// None: neither IPv4 nor IPv6.
fn address(name: &sockaddr_storage) -> Option<SocketAddr> {
    let at = std::ptr::from_ref(name);
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a storage has room for either kind, and the family says that it is this one.
            let name = unsafe { at.cast::<libc::sockaddr_in>().read() };
            let address = u32::from_be(name.sin_addr.s_addr);
            Some(
                (
                    std::net::Ipv4Addr::from_bits(address),
                    u16::from_be(name.sin_port),
                )
                    .into(),
            )
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { at.cast::<libc::sockaddr_in6>().read() };
            let (address, port) = (name.sin6_addr.s6_addr.into(), u16::from_be(name.sin6_port));
            // Without the flow label: it may change while the flow is the same.
            Some(std::net::SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}
