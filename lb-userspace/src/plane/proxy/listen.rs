//! Listening sockets: which ones a snapshot wants, and how they are made.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol as Kind, Socket, TcpKeepalive, Type};

use super::fronts::Bind;
use super::udp;
use super::workers::Workers;
use crate::model::Protocol;
use crate::plane::Problem;

/// Those that are open, and those that could not be.
#[derive(Debug)]
pub struct Listeners {
    /// Clients that wait to be accepted, by worker; the kernel may allow fewer (net.core.somaxconn).
    backlog: u32,
    keepalive: TcpKeepalive,
    open: HashSet<Bind>,
    failed: HashMap<Bind, io::Error>,
}

impl Listeners {
    pub fn new(backlog: u32, keepalive: TcpKeepalive) -> Self {
        Self {
            backlog,
            keepalive,
            open: HashSet::new(),
            failed: HashMap::new(),
        }
    }

    /// Opens what is missing and closes what is no longer wanted.
    pub fn follow(&mut self, wanted: &HashSet<Bind>, workers: &Workers) {
        self.failed.retain(|bind, _| wanted.contains(bind));
        self.open.retain(|bind| {
            let stays = wanted.contains(bind);
            if !stays {
                workers.close(*bind);
            }
            stays
        });
        for &bind in wanted {
            if !self.open.contains(&bind) {
                self.open(bind, workers);
            }
        }
    }

    /// Tries again what could not be opened.
    pub fn retry(&mut self, workers: &Workers) {
        let failed: Vec<Bind> = self.failed.keys().copied().collect();
        for bind in failed {
            self.open(bind, workers);
        }
    }

    fn open(&mut self, bind: Bind, workers: &Workers) {
        match self.made(bind, workers) {
            Ok(()) => {
                self.failed.remove(&bind);
                self.open.insert(bind);
            }
            Err(error) => {
                self.failed.insert(bind, error);
            }
        }
    }

    /// Every worker gets a socket of its own. All or none: a frontend that only some processors serve would lose clients.
    fn made(&self, bind: Bind, workers: &Workers) -> io::Result<()> {
        match bind.protocol {
            Protocol::Tcp => {
                let sockets = (0..workers.count()).map(|_| tcp(bind.address, self.backlog, &self.keepalive));
                let sockets: Vec<TcpListener> = sockets.collect::<io::Result<_>>()?;
                workers.listen(bind, sockets);
                Ok(())
            }
            Protocol::Udp => {
                let sockets = (0..workers.count()).map(|_| udp::listen(bind.address));
                let sockets: Vec<UdpSocket> = sockets.collect::<io::Result<_>>()?;
                workers.receive(bind, sockets);
                Ok(())
            }
        }
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Without those where it is well if somebody else listens.
    pub fn problems(&self, yields: impl Fn(&Bind) -> bool) -> impl Iterator<Item = Problem> {
        let is_problem =
            |(bind, error): &(&Bind, &io::Error)| error.kind() != io::ErrorKind::AddrInUse || !yields(bind);
        let mut failed: Vec<_> = self.failed.iter().filter(is_problem).collect();
        failed.sort_by_key(|(bind, _)| **bind);
        failed.into_iter().map(|(bind, error)| Problem {
            error: format!("cannot listen at {bind}: {error}"),
            traffic: "this frontend is not served by this node; the others are".into(),
            fix: fix(error).into(),
        })
    }
}

fn fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "end what listens there (ss -ltnup), or publish another port; it is tried again each second"
        }
        io::ErrorKind::PermissionDenied => {
            "give the agent CAP_NET_BIND_SERVICE, or publish a port above 1023"
        }
        _ => "mend what the system says; it is tried again each second",
    }
}

/// A listening socket for one worker. All workers have one at the same address, and the kernel shares the clients out
/// (SO_REUSEPORT). An address that is not the machine's own yet, as a VIP may be, is bound all the same (IP_FREEBIND).
fn tcp(address: SocketAddr, backlog: u32, keepalive: &TcpKeepalive) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Kind::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
