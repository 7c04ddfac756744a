//! UDP echo: `task=… client=… <payload>`.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::Identity;
use crate::listener::plain;

/// A socket for both families.
pub fn bind(port: u16) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket.into())?)
}

pub async fn serve(identity: Arc<Identity>, socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error about an earlier answer is reported here; the next datagram may be fine.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let mut said = format!("task={} client={} ", identity.task(), plain(client).ip()).into_bytes();
        said.extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&said, client).await;
    }
}
