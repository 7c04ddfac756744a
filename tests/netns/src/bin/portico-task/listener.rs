//! Listening sockets: one loop for all protocols, and an honest account of what closing costs.

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

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
/// number of connections that closing cost, exactly: those that waited to be accepted, and handshakes under way, whose
/// clients have been promised a connection. Both kinds of client are reset, unless the listener is polite and waits for
/// them.
pub async fn serve<F>(
    listener: TcpListener,
    polite: bool,
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
    if polite {
        let end = Instant::now() + POLITENESS;
        for device in way_out().into_iter().chain([NOWHERE]) {
            hide(&listener, device);
            while Instant::now() < end {
                // Who found the listener just before it was hidden is in one of its queues a moment later.
                while let Ok(Ok((stream, client))) = timeout(MOMENT, listener.accept()).await {
                    start(stream, client);
                }
                if left(&listener) == 0 {
                    break;
                }
            }
        }
    } else {
        // From here on the kernel drops what comes for the listener, so that what is counted stays what it is until it
        // closes. Clients send again after a second at the earliest.
        freeze(&listener);
    }
    let lost = left(&listener);
    drop(listener);
    while open.0.load(Ordering::Relaxed) > 0 {
        open.1.notified().await;
    }
    lost
}

/// How long a polite listener waits for clients in the middle of a handshake.
const POLITENESS: Duration = Duration::from_secs(3);

/// Far longer than a segment takes from the lookup of its listener to the handshake that it begins.
const MOMENT: Duration = Duration::from_millis(10);

/// No device has this number.
const NOWHERE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32).unwrap();

/// The device that the default route leads to, where the mesh delivers.
fn way_out() -> Option<NonZeroU32> {
    let table = std::fs::read_to_string("/proc/self/net/route").ok()?;
    let name = table.lines().find_map(|line| {
        let (name, rest) = line.split_once('\t')?;
        rest.starts_with("00000000\t").then_some(name)
    })?;
    NonZeroU32::new(nix::net::if_::if_nametoindex(name).ok()?)
}

/// Binds the listener to one device: whoever has begun a handshake may go on, and nobody else finds it but by that device.
/// Who asks the kernel, as the mesh does, is told that there is none. So a task first binds it to the device that clients
/// come by, because those who asked before are on their way, and then to none.
///
/// A socket filter would need CAP_NET_ADMIN where kernels are strict, which containers do not have; a socket may be bound to
/// a device by anybody, and to another one with CAP_NET_RAW, which Docker's containers have.
fn hide(listener: &TcpListener, device: NonZeroU32) {
    // The same option in both families.
    if let Err(error) = SockRef::from(listener).bind_device_by_index_v6(Some(device)) {
        eprintln!("clients that come while the listener closes may be reset: {error}");
    }
}

/// Keeps no byte of any packet: classic BPF (socket(7), SO_ATTACH_FILTER).
fn freeze(listener: &TcpListener) {
    const NOTHING: SockFilter = SockFilter::new(libc::BPF_RET as u16, 0, 0, 0);
    if let Err(error) = SockRef::from(listener).attach_filter(&[NOTHING]) {
        eprintln!("the listener goes on while it is counted: {error}");
    }
}

/// Clients that closing would cost. Handshakes are counted first: one that ends in between is counted twice, not never.
fn left(listener: &TcpListener) -> u32 {
    let promised = promised(listener);
    promised + waiting(listener)
}

/// Handshakes that wait for the client's last segment: /proc/net/tcp and tcp6 list them in state 03 (SYN_RECV), under
/// the listener's port.
fn promised(listener: &TcpListener) -> u32 {
    let Ok(local) = listener.local_addr() else {
        return 0;
    };
    let port = format!(":{:04X}", local.port());
    let waits = |line: &&str| {
        let mut fields = line.split_ascii_whitespace();
        let own = fields.nth(1).is_some_and(|own| own.ends_with(&port));
        own && fields.nth(1) == Some("03")
    };
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .map(|table| table.lines().filter(waits).count() as u32)
        .sum()
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
