//! Ends of this machine's own connections: of TCP, and of sockets for datagrams that are connected.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::Protocol;

/// Sockets of this network namespace.
const TABLES: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "/proc/self/net/tcp"),
    (Protocol::Tcp, "/proc/self/net/tcp6"),
    (Protocol::Udp, "/proc/self/net/udp"),
    (Protocol::Udp, "/proc/self/net/udp6"),
];
/// States of sockets that are no connection (`07` is a socket for datagrams that leads to nobody), and of those that are none any more (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
const TIME_WAIT: &str = "06";
const UNCONNECTED: &str = "07";

/// Both ends of a connection.
struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

/// Local addresses of all connections. A table that cannot be read counts as empty.
pub fn local() -> BTreeSet<IpAddr> {
    all().map(|(_, ends)| ends.local.ip()).collect()
}

/// Whom they lead to. As with [`local`].
pub fn remote() -> BTreeSet<(Protocol, SocketAddr)> {
    all().map(|(protocol, ends)| (protocol, ends.remote)).collect()
}

fn all() -> impl Iterator<Item = (Protocol, Connection)> {
    TABLES.into_iter().flat_map(|(protocol, path)| {
        let table = std::fs::read_to_string(path).unwrap_or_default();
        parse(&table).into_iter().map(move |ends| (protocol, ends))
    })
}

/// Lines of the form "0: 0100007F:1F90 0200007F:C350 01 …": local and remote end and state, in hexadecimal.
fn parse(table: &str) -> Vec<Connection> {
    let ends = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        if [LISTEN, TIME_WAIT, UNCONNECTED].contains(&state) {
            return None;
        }
        Some(Connection {
            local: end(local)?,
            remote: end(remote)?,
        })
    };
    table.lines().skip(1).filter_map(ends).collect()
}

fn end(hexadecimal: &str) -> Option<SocketAddr> {
    let (address, port) = hexadecimal.split_once(':')?;
    Some(SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// Words of four bytes, each in the machine's own order.
fn ip(hexadecimal: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hexadecimal.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hexadecimal.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(at)?);
            }
            let ip = Ipv6Addr::from(octets);
            Some(ip.to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_open_connection_is_found_by_its_ends_in_both_families() {
        for own in ["127.0.0.211", "::1"] {
            let own: IpAddr = own.parse().unwrap();
            let Ok(listener) = TcpListener::bind((own, 0)) else {
                continue;
            };
            let there = listener.local_addr().unwrap();
            let _client = TcpStream::connect(there).unwrap();
            assert!(local().contains(&own), "{own}");
            assert!(remote().contains(&(Protocol::Tcp, there)), "{there}");
        }
    }

    #[test]
    fn listeners_what_has_ended_and_nonsense_do_not_count() {
        let table = "  sl  local_address rem_address   st\n\
            \x20  0: 00000000:1F90 00000000:0000 0A 0\n\
            \x20  1: 0B02:1F91 0A6433C6:9C40 01 0\n\
            \x20  2: 0100007F:1F92 0100007F:9C40 06 0\n\
            not a line of it\n";
        assert!(parse(table).is_empty());
    }
}
