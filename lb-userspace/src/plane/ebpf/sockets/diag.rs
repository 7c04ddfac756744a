//! The kernel's list of sockets, and their end (sock_diag(7), `include/uapi/linux/inet_diag.h`), in the network namespace of
//! the calling thread.

use std::io::{self, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use lb_common::key::TCP;

use super::Doomed;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// Bits of TCP's states: all in which a process may wait for the other side.
const WAITING: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// Lengths of the message's header, of a request, and of what comes before the identity in an answer.
const HEADER: usize = 16;
const REQUESTED: usize = 8;
const BEFORE: usize = 4;
/// The identity: ports, addresses, device, cookie.
pub const ID: usize = 48;
const COOKIE: usize = 40;
/// Where an answer has the inode: after the identity, a timer, two queues and the owner.
const INODE: usize = BEFORE + ID + 16;

/// The kernel fills no more than this at once.
const BUFFER: usize = 32 * 1024;

/// One socket, as requests name it.
struct Found {
    family: u8,
    id: [u8; ID],
}

/// Ends them: whoever waits on one is told that the connection was aborted, and so is the other side. Returns how many were
/// still there; where something was refused, the first refusal, after all else was done.
pub fn end(doomed: &Doomed) -> io::Result<usize> {
    let mut found = Vec::new();
    let mut refusal = None;
    let ports: std::collections::BTreeSet<[u8; 2]> = doomed.values().copied().collect();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for &port in &ports {
            let mut other = [0; ID];
            other[2..4].copy_from_slice(&port);
            let question = request(REQUEST | DUMP, SOCK_DIAG_BY_FAMILY, TCP, WAITING, family, &other);
            // A socket of its own: what is left of a list that failed is not taken for an answer.
            let listed = open().and_then(|mut socket| {
                list(&mut socket, &question, |id, _| {
                    let is_doomed = cookie(id).and_then(|cookie| doomed.get(&cookie)) == Some(&port);
                    if is_doomed {
                        found.push(Found { family, id: *id });
                    }
                })
            });
            refusal = refusal.or(listed.err());
        }
    }
    let (mut ended, mut socket) = (0, open()?);
    for Found { family, id } in found {
        let request = request(REQUEST | ACK, SOCK_DESTROY, TCP, WAITING, family, &id);
        match socket.send(&request).and_then(|_| acknowledged(&mut socket)) {
            // One that closed meanwhile is no error.
            Ok(was_there) => ended += usize::from(was_there),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    refusal.map_or(Ok(ended), Err)
}

/// Every socket of this namespace of a protocol and family that is in one of these states, with the number of its inode.
pub fn all(protocol: u8, states: u32, family: u8, each: impl FnMut(&[u8; ID], u32)) -> io::Result<()> {
    let question = request(
        REQUEST | DUMP,
        SOCK_DIAG_BY_FAMILY,
        protocol,
        states,
        family,
        &[0; ID],
    );
    list(&mut open()?, &question, each)
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(NETLINK_SOCK_DIAG)),
    )?;
    // The kernel answers at once, or not at all.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// What the kernel answers to a question.
fn list(socket: &mut Socket, question: &[u8], mut each: impl FnMut(&[u8; ID], u32)) -> io::Result<()> {
    socket.send(question)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.read(&mut buffer)?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(failure(body).unwrap_or_else(|| io::ErrorKind::InvalidData.into())),
                _ => {
                    let id = body.get(BEFORE..).and_then(|rest| rest.first_chunk());
                    let inode = body.get(INODE..).and_then(|rest| rest.first_chunk());
                    if let (Some(id), Some(inode)) = (id, inode) {
                        each(id, u32::from_ne_bytes(*inode));
                    }
                }
            }
        }
    }
}

/// Whether what was asked for was done.
fn acknowledged(socket: &mut Socket) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    let length = socket.read(&mut buffer)?;
    let answer = messages(&buffer[..length]).find(|(kind, _)| *kind == NLMSG_ERROR);
    let Some((_, body)) = answer else {
        return Ok(false);
    };
    match failure(body) {
        None => Ok(true),
        Some(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Some(error) => Err(error),
    }
}

fn request(flags: u16, kind: u16, protocol: u8, states: u32, family: u8, id: &[u8; ID]) -> Vec<u8> {
    let length = (HEADER + REQUESTED + ID) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and sender: one question at a time needs neither.
    bytes.extend([0; 8]);
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The messages of one datagram, kind and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The error in an answer of that kind; none where it says that all went well.
fn failure(body: &[u8]) -> Option<io::Error> {
    let errno = i32::from_ne_bytes(*body.first_chunk()?);
    (errno != 0).then(|| io::Error::from_raw_os_error(-errno))
}

/// The kernel writes it as two words, the lower first.
fn cookie(id: &[u8; ID]) -> Option<u64> {
    let bytes: &[u8; 8] = id.get(COOKIE..)?.first_chunk()?;
    let [low, high] = [&bytes[..4], &bytes[4..]].map(|half| half.try_into().map_or(0, u32::from_ne_bytes));
    Some(u64::from(high) << 32 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn cookie_of(stream: &TcpStream) -> u64 {
        socket2::SockRef::from(stream).cookie().unwrap()
    }

    #[test]
    fn a_socket_named_by_its_cookie_ends_at_once_and_no_other_does() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var("CI").is_err(), "this needs root, and CI has it");
            eprintln!("SKIPPED: only root ends sockets");
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port().to_be_bytes();
            let (mut one, mut two) = (
                TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
                TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
            );
            let doomed = [(cookie_of(&one), port)].into();
            assert_eq!(end(&doomed).unwrap(), 1);
            assert_eq!(
                one.read(&mut [0]).unwrap_err().kind(),
                io::ErrorKind::ConnectionAborted
            );
            two.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            assert_eq!(two.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(end(&doomed).unwrap(), 0);
        }
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let whole = request(REQUEST, SOCK_DIAG_BY_FAMILY, TCP, WAITING, 2, &[7; ID]);
        assert_eq!(messages(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
    }
}
