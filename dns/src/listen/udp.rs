//! UDP: several sockets per address, each read in batches.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::net::xfer::Protocol;
use socket2::Type;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::batch::{BATCH, Batch, want_destination};
use super::bind::socket;
use crate::service::{Outcome, Service};

/// Queries wait here while the tasks of all sockets are busy.
const BUFFER: usize = 4 << 20;

/// The kernel spreads clients over sockets that share an address.
pub(crate) fn bind(address: SocketAddr, freebind: bool) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, freebind)?;
    socket.set_reuse_port(true)?;
    // As much as the system allows.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    if address.ip().is_unspecified() {
        want_destination(&socket, address.is_ipv6())?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Serves one socket until it fails for good.
pub(crate) async fn serve(service: Arc<Service>, socket: Arc<UdpSocket>) -> io::Result<()> {
    let mut batch = Batch::new();
    loop {
        socket.readable().await?;
        let mut count = 0;
        let received = socket.try_io(Interest::READABLE, || {
            count = batch.receive(socket.as_fd())?;
            // Less than was asked for: there is no more, and no need to ask. One that has come since wakes us again.
            if count < BATCH {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match received {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // No memory, most likely. Whatever it is, it is not over at once.
                tracing::warn!(%error, "receiving queries");
                sleep(Duration::from_millis(50)).await;
            }
            _ => answer(&service, &socket, &mut batch, count),
        }
    }
}

fn answer(service: &Arc<Service>, socket: &Arc<UdpSocket>, batch: &mut Batch, count: usize) {
    if count == 0 {
        return;
    }
    let start = Instant::now();
    service.statistics.received_udp.add(count as u64);
    for datagram in batch.datagrams() {
        let Some(client) = datagram.client() else { continue };
        let mut out = mem::take(&mut datagram.answer);
        match service.respond(datagram.query(), client, Protocol::Udp, &mut out) {
            Outcome::Ready(_) | Outcome::Nothing => {}
            Outcome::Later(pending) => {
                let (socket, service) = (Arc::clone(socket), Arc::clone(service));
                let mut path = datagram.path();
                // As many of these as may wait for upstreams.
                tokio::spawn(async move {
                    let mut answer = Vec::with_capacity(512);
                    pending.finish(&mut answer).await;
                    if path.send(socket.as_fd(), &answer).is_err() {
                        service.statistics.send_failed.increment();
                    }
                });
            }
        }
        datagram.answer = out;
    }
    let lost = batch.send(socket.as_fd());
    service.statistics.send_failed.add(lost as u64);
    service.statistics.here.add(count as u64, start.elapsed());
}
