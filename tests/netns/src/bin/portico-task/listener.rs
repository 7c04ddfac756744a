//! Listening sockets: one loop for all protocols, and an honest account of what closing costs.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A listener for both families.
pub fn bind(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// Serves connections until told to stop, then closes the listener and waits for the connections to end. Gives the
/// number of connections that were waiting to be accepted when it closed: their clients are reset.
pub async fn serve<F>(
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) -> u32
where
    F: Future<Output = ()> + Send + 'static,
{
    let open = Arc::new((AtomicUsize::new(0), Notify::new()));
    let start = |stream: TcpStream, client: SocketAddr| {
        let _ = stream.set_nodelay(true);
        open.0.fetch_add(1, Ordering::Relaxed);
        let (work, open) = (handle(stream, plain(client)), open.clone());
        tokio::spawn(async move {
            work.await;
            open.0.fetch_sub(1, Ordering::Relaxed);
            open.1.notify_one();
        });
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => start(stream, client),
                // Out of files, or the client has gone: neither is a reason to stop.
                Err(_) => tokio::task::yield_now().await,
            },
            _ = async { drop(stopping.wait_for(|stop| *stop).await) } => break,
        }
    }
    let lost = waiting(&listener);
    drop(listener);
    while open.0.load(Ordering::Relaxed) > 0 {
        open.1.notified().await;
    }
    lost
}

/// Connections in the accept queue: what Linux reports as unacknowledged segments of a listening socket.
fn waiting(listener: &TcpListener) -> u32 {
    // SAFETY: tcp_info is integers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`; the socket is open.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    if result == 0 { info.tcpi_unacked } else { 0 }
}

/// An IPv4 client as itself, not as a mapped IPv6 address.
pub fn plain(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}
