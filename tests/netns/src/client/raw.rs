//! Frames written and read by hand, on one device of a namespace.

pub mod tcp;
pub mod udp;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::tool;

/// One end of a wire.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// The device's own Ethernet address.
    pub own: [u8; 6],
    /// That of the next hop.
    pub next: [u8; 6],
}

impl Wire {
    /// The client's wire to the router. Use addresses of [`SILENT`](crate::address::SILENT), for which its kernel does
    /// not answer.
    pub fn of_client(cluster: &Cluster) -> Result<Self> {
        Self::open(&cluster.client(), "eth0", &cluster.router(), "client0")
    }

    /// A device, and the one at the other end of its wire.
    pub fn open(namespace: &Namespace, device: &str, other: &Namespace, peer: &str) -> Result<Self> {
        let (index, own) = link(namespace, device)?;
        let (_, next) = link(other, peer)?;
        let socket = namespace.run(|| packet_socket(index))??;
        Ok(Self { socket, own, next })
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the pointer and the length are those of the slice; the socket is open.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("cannot send a frame");
        }
        Ok(())
    }

    /// Waits for a frame that the function makes something of.
    pub fn receive<T>(&self, patience: Duration, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < end {
            // SAFETY: the kernel writes at most the buffer's length to it; the socket is open and has a timeout.
            let length = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            if let Some(frame) = usize::try_from(length)
                .ok()
                .and_then(|length| buffer.get(..length))
                && let Some(found) = wanted(frame)
            {
                return Some(found);
            }
        }
        None
    }
}

/// Index and Ethernet address of a device.
fn link(namespace: &Namespace, device: &str) -> Result<(i32, [u8; 6])> {
    let text = tool::run(std::process::Command::new("ip").args([
        "-n",
        namespace.name(),
        "-j",
        "link",
        "show",
        device,
    ]))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let index = links[0]["ifindex"].as_i64().context("no device index")?;
    let mut address = [0; 6];
    let words = links[0]["address"]
        .as_str()
        .context("no Ethernet address")?
        .split(':');
    for (byte, word) in address.iter_mut().zip(words) {
        *byte = u8::from_str_radix(word, 16)?;
    }
    Ok((index as i32, address))
}

/// A packet socket (packet(7)) bound to a device, which gives up a receive after 20 ms.
fn packet_socket(index: i32) -> Result<OwnedFd> {
    let every = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: a new socket, checked below and then owned.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, every.into()) };
    if socket < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a packet socket");
    }
    // SAFETY: nobody else has this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: sockaddr_ll is integers only, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every;
    address.sll_ifindex = index;
    // SAFETY: the pointer and the length are those of `address`.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of_val(&address) as u32,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error()).context("cannot bind a packet socket");
    }
    socket2::SockRef::from(&socket).set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}
