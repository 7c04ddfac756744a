//! Telling a client that nobody takes its datagrams: ICMP port unreachable (RFC 792, RFC 4443 section 3.1).
//!
//! The kernel says that of ports that have no socket, and the frontend's has one. So the message is made here and sent by a
//! raw socket, which takes CAP_NET_RAW when the agent starts. It quotes what is known of the datagram: addresses, ports and
//! length, by which the client's kernel finds the socket; identification, hop limit and checksum of the datagram are not known,
//! and kernels do not look at them. What cannot be had:
//! - without the capability clients are told nothing, and wait as long as they would for a lost datagram;
//! - a client that did not connect() its socket is told by its kernel only if it asked for that (IP_RECVERR), as ever;
//! - the message comes from the address that was asked, not from the task, and is limited in number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lb_common::checksum;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::outbox::{Envelope, Outbox};

/// Messages a second of the whole node, as Linux has it for its own (net.ipv4.icmp_msgs_per_sec).
const PER_SECOND: u32 = 1000;
/// What quoted datagrams are said to have had left.
const HOPS: u8 = 64;
const UDP: u8 = 17;

/// The raw sockets of a node; without them nobody is told.
#[derive(Debug)]
pub struct Unreachable {
    v4: Option<Socket>,
    v6: Option<Socket>,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    since: Instant,
    messages: u32,
}

impl Unreachable {
    /// To be made while the agent may open raw sockets.
    pub fn open() -> Self {
        Self {
            v4: raw(Domain::IPV4, Protocol::ICMPV4),
            v6: raw(Domain::IPV6, Protocol::ICMPV6),
            spent: Mutex::new(Spent {
                since: Instant::now(),
                messages: 0,
            }),
        }
    }

    /// Clients of that family can be told.
    pub fn can_tell(&self, v6: bool) -> bool {
        if v6 { self.v6.is_some() } else { self.v4.is_some() }
    }

    /// Tells a client that its datagram of so many bytes for `front` was refused. False: it could not be told.
    pub fn tell(&self, client: SocketAddr, front: SocketAddr, length: u16) -> bool {
        let (socket, message) = match (client.ip(), front.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let ports = (client.port(), front.port());
                (&self.v4, message_v4((from, to), ports, length))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let ports = (client.port(), front.port());
                (&self.v6, message_v6((from, to), ports, length))
            }
            _ => return false,
        };
        let Some(socket) = socket else { return false };
        if !self.may_send(Instant::now()) {
            return false;
        }
        let mut to = client;
        // Raw sockets have protocols where others have ports.
        to.set_port(0);
        let envelope = Envelope { to, from: front.ip() };
        let mut outbox = Outbox::default();
        outbox.push(0, Some(envelope), 0..message.len(), None, 0);
        outbox.send(socket.as_fd(), &message, 0).is_none()
    }

    fn may_send(&self, now: Instant) -> bool {
        let Ok(mut spent) = self.spent.lock() else {
            return false;
        };
        if now.saturating_duration_since(spent.since) >= Duration::from_secs(1) {
            *spent = Spent {
                since: now,
                messages: 0,
            };
        }
        spent.messages += 1;
        spent.messages <= PER_SECOND
    }
}

/// A socket that only sends: every ICMP message that comes in would be copied to it, too.
fn raw(domain: Domain, protocol: Protocol) -> Option<Socket> {
    /// BPF_RET | BPF_K: keep no byte.
    const NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol)).ok()?;
    socket.attach_filter(&[NOTHING]).ok()?;
    Some(socket)
}

/// The kernel puts the IP header before it.
fn message_v4((from, to): (Ipv4Addr, Ipv4Addr), ports: (u16, u16), length: u16) -> Vec<u8> {
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length.saturating_add(28).to_be_bytes());
    ip[8] = HOPS;
    ip[9] = UDP;
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let sum = !checksum::fold(checksum::sum(&ip));
    ip[10..12].copy_from_slice(&sum.to_ne_bytes());
    // Destination unreachable, port; checksum and four unused bytes.
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(ip);
    message.extend(quoted(ports, length));
    let sum = !checksum::fold(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    message
}

/// The kernel puts the IP header before it, and the checksum into it, as that covers addresses.
fn message_v6((from, to): (Ipv6Addr, Ipv6Addr), ports: (u16, u16), length: u16) -> Vec<u8> {
    // Destination unreachable, port; checksum and four unused bytes.
    let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
    message.extend([0x60, 0, 0, 0]);
    message.extend(length.saturating_add(8).to_be_bytes());
    message.extend([UDP, HOPS]);
    message.extend(from.octets());
    message.extend(to.octets());
    message.extend(quoted(ports, length));
    message
}

/// The UDP header of the datagram, without its checksum.
fn quoted((from, to): (u16, u16), length: u16) -> [u8; 8] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    let [e, f] = length.saturating_add(8).to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, SlicedPacket, icmpv4, icmpv6};

    use super::*;

    const PORTS: (u16, u16) = (40_000, 53);

    #[test]
    fn the_message_quotes_the_datagram() {
        let ends = ([192, 0, 2, 1].into(), [192, 0, 2, 9].into());
        let message = message_v4(ends, PORTS, 100);
        let icmp = Icmpv4Slice::from_slice(&message).unwrap();
        assert!(matches!(
            icmp.icmp_type(),
            Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)
        ));
        assert_eq!(checksum::fold(checksum::sum(&message)), 0xffff);
        let ip = &icmp.payload()[..20];
        assert_eq!(checksum::fold(checksum::sum(ip)), 0xffff);
        assert_eq!(ip[2..4], 128u16.to_be_bytes());
        assert_eq!(ip[12..20], [192, 0, 2, 1, 192, 0, 2, 9]);
        assert_eq!(icmp.payload()[20..], quoted(PORTS, 100));
    }

    #[test]
    fn the_ipv6_message_quotes_the_datagram() {
        let ends = ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let message = message_v6(ends, PORTS, 0);
        let icmp = Icmpv6Slice::from_slice(&message).unwrap();
        assert!(matches!(
            icmp.icmp_type(),
            Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port)
        ));
        let datagram = SlicedPacket::from_ip(icmp.payload()).unwrap();
        let Some(etherparse::TransportSlice::Udp(udp)) = datagram.transport else {
            panic!("{datagram:?}");
        };
        assert_eq!((udp.source_port(), udp.destination_port()), PORTS);
    }

    #[test]
    fn there_is_a_limit() {
        let unreachable = Unreachable {
            v4: None,
            v6: None,
            spent: Mutex::new(Spent {
                since: Instant::now(),
                messages: PER_SECOND - 1,
            }),
        };
        let now = Instant::now();
        assert!(unreachable.may_send(now) && !unreachable.may_send(now));
        assert!(unreachable.may_send(now + Duration::from_secs(2)));
    }
}
