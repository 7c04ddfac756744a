//! What UDP and TCP sockets have in common before they are bound.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// An unbound socket of an address's family. With `freebind` it may be bound to an address that this machine does not
/// have yet.
pub(super) fn socket(address: SocketAddr, kind: Type, freebind: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.is_ipv6() {
        // The IPv4 wildcard is an address of its own.
        socket.set_only_v6(true)?;
    }
    match address {
        _ if !freebind => {}
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    Ok(socket)
}
