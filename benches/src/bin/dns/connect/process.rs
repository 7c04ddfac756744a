//! The process that connects, and the task that takes what comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use netns::Namespace;
use socket2::{Domain, SockAddr, Type};

use super::Socket;

/// Connections that wait for the task to take them.
const BACKLOG: i32 = 4096;

#[derive(Args, Clone, Debug)]
pub struct Connect {
    #[arg(long, value_enum)]
    socket: Socket,
    #[arg(long)]
    count: u32,
    /// Without it sockets are only made and closed.
    #[arg(long)]
    target: Option<SocketAddr>,
}

/// Opens and closes sockets, and prints the nanoseconds that one takes, and the address that the last one had itself.
pub fn run(connect: &Connect) -> Result<()> {
    // What the first one pays, neighbours and caches, is not asked for.
    for _ in 0..100 {
        once(connect)?;
    }
    let start = Instant::now();
    for _ in 0..connect.count {
        once(connect)?;
    }
    let took = start.elapsed().as_secs_f64() * 1e9 / f64::from(connect.count);
    let own = once(connect)?.local_addr()?;
    let own = own
        .as_socket_ipv4()
        .map_or(Ipv4Addr::UNSPECIFIED, |own| *own.ip());
    println!("{took} {own}");
    Ok(())
}

fn once(connect: &Connect) -> Result<socket2::Socket> {
    let kind = match connect.socket {
        Socket::Tcp => Type::STREAM,
        Socket::Udp => Type::DGRAM,
    };
    let socket = socket2::Socket::new(Domain::IPV4, kind, None)?;
    if let Some(target) = connect.target {
        if connect.socket == Socket::Tcp {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        socket
            .connect(&SockAddr::from(target))
            .with_context(|| format!("cannot connect to {target}"))?;
    }
    Ok(socket)
}

/// Takes connections inside a task's namespace, on a thread that ends with this process.
pub fn accept(task: &Namespace, port: u16) -> Result<()> {
    let listener = task.run(|| -> Result<socket2::Socket> {
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SockAddr::from(SocketAddr::from(([0, 0, 0, 0], port))))?;
        listener.listen(BACKLOG)?;
        Ok(listener)
    })??;
    std::thread::spawn(move || while listener.accept().is_ok() {});
    Ok(())
}
