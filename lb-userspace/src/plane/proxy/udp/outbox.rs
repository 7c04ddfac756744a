//! Sending many datagrams with one system call (sendmmsg(2)); those of one flow that are of one size as one super-packet, which
//! crosses the kernel whole and is cut by the device, or by whoever receives it (udp(7), UDP_SEGMENT).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{iovec, mmsghdr};
use socket2::SockAddr;

use super::control::{self, Space};
use super::counters::Amount;

/// What a super-packet may hold at most: udp_sendmsg refuses more datagrams, and IPv4 more bytes.
const DATAGRAMS: usize = 64;
const BYTES: usize = 65_507;

/// What is to be sent from one socket. A worker has one, and carries with it for all frontends.
#[derive(Default)]
pub struct Outbox {
    parcels: Vec<Parcel>,
    /// Of all parcels: ranges of the bytes that [`send`](Self::send) is given.
    pieces: Vec<Range<usize>>,
    heads: Vec<mmsghdr>,
    vectors: Vec<iovec>,
    names: Vec<Option<SockAddr>>,
    spaces: Vec<Space>,
}

/// One datagram, or several that go together.
#[derive(Clone, Debug)]
struct Parcel {
    /// Whose it is.
    mark: u64,
    envelope: Option<Envelope>,
    pieces: Range<usize>,
    length: usize,
    /// Of each datagram, where it is several.
    segment: Option<u16>,
    /// How large further datagrams may be; none can be added: 0.
    open: usize,
}

/// Where a datagram goes from a socket that is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub to: SocketAddr,
    pub from: IpAddr,
}

/// Sending has stopped at a parcel.
#[derive(Debug)]
pub struct Stopped {
    pub at: usize,
    pub error: io::Error,
}

impl Outbox {
    pub fn clear(&mut self) {
        self.parcels.clear();
        self.pieces.clear();
    }

    /// Adds what lies in `range`: one datagram, or several of the size `segment`. Datagrams of at most `ceiling` bytes go
    /// together with others of the same mark, added one after the other.
    pub fn push(
        &mut self,
        mark: u64,
        envelope: Option<Envelope>,
        range: Range<usize>,
        segment: Option<u16>,
        ceiling: u16,
    ) {
        match segment {
            Some(size) if size > ceiling => {
                for range in cut(range, size) {
                    self.add(mark, envelope, range, None, ceiling);
                }
            }
            _ => self.add(mark, envelope, range, segment, ceiling),
        }
    }

    fn add(
        &mut self,
        mark: u64,
        envelope: Option<Envelope>,
        range: Range<usize>,
        segment: Option<u16>,
        ceiling: u16,
    ) {
        let length = range.len();
        if segment.is_none()
            && let Some(last) = self.parcels.last_mut()
            && last.mark == mark
            && last.takes(length)
        {
            self.pieces.push(range);
            last.take(length);
            return;
        }
        let first = self.pieces.len();
        self.pieces.push(range);
        self.parcels.push(Parcel {
            mark,
            envelope,
            pieces: first..first + 1,
            length,
            segment,
            open: if segment.is_none() && length <= usize::from(ceiling) {
                length
            } else {
                0
            },
        });
    }

    /// Sends all parcels from the one numbered `from` on; their bytes are in `bytes`. Does not wait. None: all were sent.
    pub fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], from: usize) -> Option<Stopped> {
        self.address(bytes, from);
        let mut at = from;
        while at < self.parcels.len() {
            let rest = &mut self.heads[at - from..];
            // SAFETY: the headers point to vectors, names and spaces of this outbox, which nobody touches meanwhile, and those
            // to `bytes`, which the kernel only reads.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as _,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => at += sent,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Some(Stopped { at, error });
                    }
                }
            }
        }
        None
    }

    /// Makes the headers of the parcels from the one numbered `from` on.
    fn address(&mut self, bytes: &[u8], from: usize) {
        let parcels = &self.parcels[from.min(self.parcels.len())..];
        self.vectors.clear();
        self.vectors.extend(self.pieces.iter().map(|piece| {
            let piece = &bytes[piece.clone()];
            iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            }
        }));
        self.names.clear();
        let name = |parcel: &Parcel| parcel.envelope.map(|envelope| envelope.to.into());
        self.names.extend(parcels.iter().map(name));
        self.spaces
            .resize(self.spaces.len().max(parcels.len()), Space::default());
        self.heads.clear();
        let (vectors, spaces) = (self.vectors.as_mut_ptr(), self.spaces.as_mut_ptr());
        for (number, (parcel, name)) in parcels.iter().zip(&self.names).enumerate() {
            // SAFETY: numbers and pointers, all of which may be zero.
            let mut head: mmsghdr = unsafe { std::mem::zeroed() };
            let message = &mut head.msg_hdr;
            if let Some(name) = name {
                message.msg_name = name.as_ptr().cast_mut().cast();
                message.msg_namelen = name.len();
            }
            // SAFETY: a parcel's pieces are among all pieces, for each of which there is a vector; and there are as many
            // spaces as parcels. Vectors and spaces stay where they are until headers are made again.
            unsafe {
                message.msg_iov = vectors.add(parcel.pieces.start);
                message.msg_iovlen = parcel.pieces.len() as _;
                let space = spaces.add(number);
                let from = parcel.envelope.map(|envelope| envelope.from);
                let used = control::write(&mut *space, from, parcel.segment);
                if used > 0 {
                    message.msg_control = space.cast();
                    message.msg_controllen = used as _;
                }
            }
            self.heads.push(head);
        }
    }

    /// Makes single datagrams of a parcel.
    pub fn split(&mut self, at: usize) {
        let Some(parcel) = self.parcels.get(at).cloned() else {
            return;
        };
        let Some(size) = parcel.segment else {
            return;
        };
        let first = self.pieces.len();
        for number in parcel.pieces.clone() {
            let piece = self.pieces[number].clone();
            self.pieces.extend(cut(piece, size));
        }
        let single = |number: usize| Parcel {
            pieces: number..number + 1,
            length: self.pieces[number].len(),
            segment: None,
            open: 0,
            ..parcel.clone()
        };
        let singles: Vec<Parcel> = (first..self.pieces.len()).map(single).collect();
        self.parcels.splice(at..=at, singles);
    }

    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// What a parcel is made of; the bytes of all are in `bytes`.
    pub fn pieces<'b>(&self, at: usize, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let pieces = &self.pieces[self.parcels[at].pieces.clone()];
        pieces.iter().map(|piece| &bytes[piece.clone()])
    }

    /// Whose a parcel is.
    pub fn mark(&self, at: usize) -> u64 {
        self.parcels[at].mark
    }

    /// The size of a parcel's datagrams, where it is several.
    pub fn segment(&self, at: usize) -> Option<u16> {
        self.parcels[at].segment
    }

    /// What is in one parcel.
    pub fn amount(&self, at: usize) -> Amount {
        self.parcels[at].amount()
    }

    /// What is in the parcels from the one numbered `from` on.
    pub fn rest(&self, from: usize) -> Amount {
        let parcels = self.parcels.get(from..).unwrap_or_default();
        parcels.iter().map(Parcel::amount).sum()
    }
}

impl Parcel {
    fn amount(&self) -> Amount {
        Amount::of(self.length, self.segment)
    }

    fn takes(&self, length: usize) -> bool {
        (1..=self.open).contains(&length) && self.pieces.len() < DATAGRAMS && self.length + length <= BYTES
    }

    fn take(&mut self, length: usize) {
        self.segment = self.segment.or(u16::try_from(self.open).ok());
        self.pieces.end += 1;
        self.length += length;
        if length < self.open {
            self.open = 0;
        }
    }
}

fn cut(range: Range<usize>, size: u16) -> impl Iterator<Item = Range<usize>> {
    let size = usize::from(size).max(1);
    range
        .clone()
        .step_by(size)
        .map(move |start| start..(start + size).min(range.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many datagrams each parcel is.
    fn shape(outbox: &Outbox) -> Vec<u64> {
        outbox
            .parcels
            .iter()
            .map(|parcel| parcel.amount().datagrams)
            .collect()
    }

    fn push(outbox: &mut Outbox, mark: u64, lengths: &[usize], ceiling: u16) {
        for length in lengths {
            outbox.push(mark, None, 0..*length, None, ceiling);
        }
    }

    #[test]
    fn datagrams_of_one_size_go_together_and_a_shorter_one_ends_them() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, &[100, 100, 100, 40, 100, 200, 200], u16::MAX);
        assert_eq!(shape(&outbox), [4, 1, 2]);
        assert_eq!(outbox.segment(0), Some(100));
        assert_eq!(outbox.segment(1), None);
        assert_eq!(outbox.rest(1).datagrams, 3);
    }

    #[test]
    fn datagrams_of_different_flows_stay_apart() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, &[100], u16::MAX);
        push(&mut outbox, 2, &[100, 100], u16::MAX);
        assert_eq!(shape(&outbox), [1, 2]);
    }

    #[test]
    fn what_is_empty_or_larger_than_the_ceiling_goes_alone() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, &[0, 0, 1400, 1400], 1399);
        assert_eq!(shape(&outbox), [1, 1, 1, 1]);
    }

    #[test]
    fn a_super_packet_keeps_its_bounds() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, &[10; DATAGRAMS + 1], u16::MAX);
        assert_eq!(shape(&outbox), [DATAGRAMS as u64, 1]);
        outbox.clear();
        push(&mut outbox, 1, &[30_000; 3], u16::MAX);
        assert_eq!(shape(&outbox), [2, 1]);
    }

    #[test]
    fn a_super_packet_is_cut_where_its_datagrams_were() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, &[7], u16::MAX);
        outbox.push(1, None, 1000..1250, Some(100), u16::MAX);
        outbox.push(1, None, 0..9, None, u16::MAX);
        assert_eq!(shape(&outbox), [1, 3, 1]);
        outbox.split(1);
        assert_eq!(shape(&outbox), [1; 5]);
        let pieces = outbox
            .parcels
            .iter()
            .map(|parcel| &outbox.pieces[parcel.pieces.start]);
        let pieces: Vec<_> = pieces.cloned().collect();
        assert_eq!(pieces, [0..7, 1000..1100, 1100..1200, 1200..1250, 0..9]);
        // The same for one that is known to be too large.
        let mut other = Outbox::default();
        other.push(1, None, 1000..1250, Some(100), 99);
        assert_eq!(shape(&other), [1; 3]);
    }
}
