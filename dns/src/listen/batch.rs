//! Many datagrams per system call.
//!
//! hickory's own server takes one datagram per call, starts a task for it and sends the answer through a channel; a
//! name of ours takes less time than that.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams per call. More gain nothing, and the first would wait for the last.
pub(super) const BATCH: usize = 32;
/// No sane query is longer; what is, is cut and then malformed.
const QUERY: usize = 2048;
/// Fits one `in6_pktinfo` with its header.
const CONTROL: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// A datagram and its answer.
pub(super) struct Slot {
    query: Box<[u8; QUERY]>,
    received: usize,
    path: Path,
    /// Empty where there is none.
    pub(super) answer: Vec<u8>,
}

/// Buffers for the datagrams of one batch and their answers.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    filled: usize,
}

/// Where a datagram came from, and the address it was sent to: what an answer to it needs.
#[derive(Clone, Copy)]
pub(super) struct Path {
    address: libc::sockaddr_storage,
    address_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let slot = || Slot {
            query: Box::new([0; QUERY]),
            received: 0,
            path: Path {
                // SAFETY: a plain C structure, for which all zeroes (no family) is a value.
                address: unsafe { mem::zeroed() },
                address_length: 0,
                control: Control([0; CONTROL]),
                control_length: 0,
            },
            answer: Vec::with_capacity(QUERY),
        };
        Self {
            slots: (0..BATCH).map(|_| slot()).collect(),
            filled: 0,
        }
    }

    /// Takes what is there, without waiting; the number of datagrams, or `WouldBlock`.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: both are plain C structures, for which all zeroes (null pointers, no lengths) is a value.
        let (mut vectors, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        for ((slot, vector), message) in self.slots.iter_mut().zip(&mut vectors).zip(&mut messages) {
            vector.iov_base = slot.query.as_mut_ptr().cast();
            vector.iov_len = QUERY;
            slot.path.address_length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            message.msg_hdr = slot.path.header(CONTROL, vector);
        }
        // SAFETY: the headers point to `BATCH` slots of `self` and to `vectors`, which outlive the call and are borrowed
        // mutably by this function alone; all lengths are those of the buffers.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, message) in self.slots.iter_mut().zip(&messages).take(count) {
            slot.received = (message.msg_len as usize).min(QUERY);
            slot.path.address_length = message.msg_hdr.msg_namelen;
            slot.path.control_length = message.msg_hdr.msg_controllen.min(CONTROL);
            slot.answer.clear();
        }
        self.filled = count;
        Ok(count)
    }

    /// The datagrams that were taken last.
    pub(super) fn datagrams(&mut self) -> &mut [Slot] {
        &mut self.slots[..self.filled]
    }

    /// Sends the answers that have been written. Those that cannot be sent are lost, as datagrams are; their number is
    /// returned.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        // SAFETY: as in `receive`.
        let (mut vectors, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        let answered = self.slots[..self.filled]
            .iter_mut()
            .filter(|slot| !slot.answer.is_empty());
        let mut total = 0;
        for ((slot, vector), message) in answered.zip(&mut vectors).zip(&mut messages) {
            vector.iov_base = slot.answer.as_mut_ptr().cast();
            vector.iov_len = slot.answer.len();
            message.msg_hdr = slot.path.reply(vector);
            total += 1;
        }
        let (mut sent, mut lost) = (0, 0);
        while sent + lost < total {
            let rest = &mut messages[sent + lost..total];
            // SAFETY: the headers point to slots of `self` and to `vectors`, as in `receive`; the kernel reads them.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(count) {
                Ok(count) if count > 0 => sent += count,
                // The first of the rest is the one that failed: no route, no buffer, a port that is closed.
                _ => lost += 1,
            }
        }
        lost
    }
}

impl Slot {
    pub(super) fn query(&self) -> &[u8] {
        &self.query[..self.received]
    }

    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// Who asks; `None` for who cannot be answered.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        // Nobody listens at port 0, and an answer to it would only be an error.
        self.path.client().filter(|client| client.port() != 0)
    }
}

impl Path {
    fn client(&self) -> Option<SocketAddr> {
        let address = ptr::from_ref(&self.address);
        match libc::c_int::from(self.address.ss_family) {
            libc::AF_INET => {
                // SAFETY: `sockaddr_storage` is as large and as aligned as any address, and the family says that it is
                // this one; every pattern of bits is a value.
                let v4 = unsafe { &*address.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { &*address.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(
                    SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id)
                        .into(),
                )
            }
            _ => None,
        }
    }

    /// Sends one answer, later than its batch.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, answer: &[u8]) -> io::Result<()> {
        let mut vector = libc::iovec {
            iov_base: answer.as_ptr().cast_mut().cast(),
            iov_len: answer.len(),
        };
        let message = self.reply(&mut vector);
        // SAFETY: the header points to `self`, `vector` and `answer`, which outlive the call; the kernel reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn reply(&mut self, vector: &mut libc::iovec) -> libc::msghdr {
        let control = reply_control(&mut self.control, self.control_length);
        self.header(control, vector)
    }

    fn header(&mut self, control_length: usize, vector: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: a plain C structure, for which all zeroes is a value; its padding differs between C libraries.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut self.address).cast();
        header.msg_namelen = self.address_length;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if control_length > 0 {
            header.msg_control = ptr::from_mut(&mut self.control).cast();
            header.msg_controllen = control_length as _;
        }
        header
    }
}

/// Makes of "sent to this address" an order to answer from it, by any device that leads to the client; its length, 0
/// where the kernel said nothing because the socket has an address of its own.
fn reply_control(control: &mut Control, length: usize) -> usize {
    // level and type follow the length, which has the width of a pointer.
    const LEVEL: usize = mem::size_of::<usize>();
    const DATA: usize = LEVEL + 8;
    if length < DATA {
        return 0;
    }
    let word = |at: usize| {
        i32::from_ne_bytes([
            control.0[at],
            control.0[at + 1],
            control.0[at + 2],
            control.0[at + 3],
        ])
    };
    match (word(LEVEL), word(LEVEL + 4)) {
        // struct in_pktinfo: device, source for the answer, destination of the query.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            control.0[DATA..DATA + 4].fill(0);
            // What the kernel offers as the source is wrong for a query that was broadcast only, and those have no
            // other.
            length
        }
        // struct in6_pktinfo: address, device. A link-local address means nothing without its device.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let link_local = control.0[DATA] == 0xfe && control.0[DATA + 1] & 0xc0 == 0x80;
            if !link_local {
                control.0[DATA + 16..DATA + 20].fill(0);
            }
            length
        }
        _ => 0,
    }
}

/// Asks the kernel to tell the address of each query, which a socket bound to the wildcard address must answer from.
pub(super) fn want_destination(socket: &socket2::Socket, v6: bool) -> io::Result<()> {
    let (level, name) = match v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
