//! Listening sockets: which ones a snapshot wants, and how they are made, where another agent has not left them open.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as Kind, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::watch;

use super::beside::Lookup;
use super::fronts::Bind;
use super::serving::LINGER;
use super::sockets::Sockets;
use super::udp;
use super::workers::Workers;
use crate::model::{Family, Protocol};
use crate::plane::Problem;

/// A port that another program has had is taken once it has been free for so long: a program that is started again finds its own.
pub const GONE: Duration = Duration::from_secs(30);

/// Those that are open, and those that could not be.
#[derive(Debug)]
pub struct Listeners {
    /// Clients that wait to be accepted, by worker; the kernel may allow fewer (net.core.somaxconn).
    backlog: u32,
    keepalive: TcpKeepalive,
    /// Clients wait in these until there is a snapshot that says whether they are wanted.
    given: Sockets,
    /// Where another program has the port, clients are led to sockets that are bound elsewhere.
    lookup: Option<Arc<dyn Lookup>>,
    /// To which nobody may be led.
    barred: HashSet<Bind>,
    /// With where their sockets are bound.
    open: HashMap<Bind, Bind>,
    /// Bound elsewhere, and their ports are free again, since then.
    free: HashMap<Bind, Instant>,
    /// Bound elsewhere for ports that have been taken, since then.
    leaving: Vec<(Bind, Instant)>,
    failed: HashMap<Bind, io::Error>,
    /// Told of each change.
    changed: watch::Sender<u64>,
}

impl Listeners {
    pub fn new(
        backlog: u32,
        keepalive: TcpKeepalive,
        given: Sockets,
        lookup: Option<Arc<dyn Lookup>>,
        changed: watch::Sender<u64>,
    ) -> Self {
        Self {
            backlog,
            keepalive,
            given,
            lookup,
            barred: HashSet::new(),
            open: HashMap::new(),
            free: HashMap::new(),
            leaving: Vec::new(),
            failed: HashMap::new(),
            changed,
        }
    }

    /// Has these be found at their own ports only, from now on.
    pub fn bar(&mut self, barred: HashSet<Bind>, workers: &Workers) {
        self.barred = barred;
        let closing: Vec<Bind> = self.led().filter(|bind| self.barred.contains(bind)).collect();
        if closing.is_empty() {
            return;
        }
        for bind in closing {
            if let Some(at) = self.open.remove(&bind) {
                workers.close(at);
                self.changed.send_modify(|changes| *changes += 1);
            }
        }
        self.settle();
    }

    /// Opens what is missing and closes what is no longer wanted.
    pub fn follow(&mut self, wanted: &HashSet<Bind>, workers: &Workers) {
        self.failed.retain(|bind, _| wanted.contains(bind));
        self.open.retain(|bind, at| {
            let stays = wanted.contains(bind);
            if !stays {
                workers.close(*at);
                self.changed.send_modify(|changes| *changes += 1);
            }
            stays
        });
        for &bind in wanted {
            if !self.open.contains_key(&bind) {
                self.open(bind, workers);
            }
        }
        self.settle();
        // What nobody wants: clients that wait there are reset.
        if !std::mem::take(&mut self.given).is_empty() {
            self.changed.send_modify(|changes| *changes += 1);
        }
    }

    /// What was given and is not wanted or refused so far.
    pub fn given(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.given.iter()
    }

    /// Tries again what could not be opened, and takes ports that other programs have left for good.
    pub fn retry(&mut self, workers: &Workers, now: Instant) {
        let failed: Vec<Bind> = self.failed.keys().copied().collect();
        for bind in failed {
            self.open(bind, workers);
        }
        for bind in self.left(now) {
            if let Ok(sockets) = together(Vec::new(), self.more(workers.count(), bind.address)) {
                workers.listen(bind, bind, sockets);
                // Clients may wait in the others.
                let before = self.open.insert(bind, bind);
                self.leaving.extend(before.map(|at| (at, now)));
                self.changed.send_modify(|changes| *changes += 1);
            }
        }
        self.settle();
        self.leaving.retain(|(at, since)| {
            let stays = now.duration_since(*since) < LINGER;
            if !stays {
                workers.close(*at);
                self.changed.send_modify(|changes| *changes += 1);
            }
            stays
        });
    }

    /// Those whose ports have been free for long enough.
    fn left(&mut self, now: Instant) -> Vec<Bind> {
        let free: Vec<Bind> = self.led().filter(|bind| is_free(bind.address)).collect();
        self.free.retain(|bind, _| free.contains(bind));
        let is_long = |bind: &Bind| now.duration_since(*self.free.entry(*bind).or_insert(now)) >= GONE;
        free.into_iter().filter(is_long).collect()
    }

    /// Frontends whose sockets are bound elsewhere.
    pub fn led(&self) -> impl Iterator<Item = Bind> {
        let open = self.open.iter();
        open.filter(|(bind, at)| bind != at).map(|(bind, _)| *bind)
    }

    /// Clients are led to these, and to no others.
    fn settle(&self) {
        if let Some(lookup) = &self.lookup {
            lookup.keep(&self.led().collect());
        }
    }

    fn open(&mut self, bind: Bind, workers: &Workers) {
        let given = self.given.take(&bind);
        match self.made(bind, given, workers) {
            Ok(at) => {
                self.failed.remove(&bind);
                self.open.insert(bind, at);
                self.changed.send_modify(|changes| *changes += 1);
            }
            Err(error) => {
                self.failed.insert(bind, error);
            }
        }
    }

    /// Every worker gets a socket of its own, or more of those that were `given`: each is kept, as the kernel resets clients
    /// that wait in one that is closed, whatever others there are at the same address. All or none: a frontend that only some
    /// processors serve would lose clients; one that others have served before is not given up for that.
    /// Gives where they are bound.
    fn made(&self, bind: Bind, given: Vec<OwnedFd>, workers: &Workers) -> io::Result<Bind> {
        let missing = workers.count().saturating_sub(given.len());
        match bind.protocol {
            Protocol::Tcp => {
                let at = given.first().map_or(Ok(bind), Sockets::bind)?;
                let sockets: Vec<TcpListener> = given.into_iter().map(TcpListener::from).collect();
                for socket in &sockets {
                    // The configuration may have changed.
                    let _ = SockRef::from(socket).listen(waiting(self.backlog));
                    let _ = SockRef::from(socket).set_tcp_keepalive(&self.keepalive);
                }
                if at != bind {
                    return self.elsewhere(bind, at.address, sockets, workers);
                }
                match together(sockets, self.more(missing, bind.address)) {
                    Ok(sockets) => workers.listen(bind, bind, sockets),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        let led = self.elsewhere(bind, nowhere(bind.address), Vec::new(), workers);
                        let both = |why| io::Error::new(error.kind(), format!("{error}; {why}"));
                        return led.map_err(both);
                    }
                    Err(error) => return Err(error),
                }
            }
            Protocol::Udp => {
                let more = (0..missing).map(|_| udp::listen(bind.address));
                let sockets = given.into_iter().map(UdpSocket::from).collect();
                workers.receive(bind, together(sockets, more)?);
            }
        }
        Ok(bind)
    }

    /// Where another program has the port: sockets at an address that nobody asks for, to which clients are led. Some may be there
    /// already.
    fn elsewhere(
        &self,
        bind: Bind,
        mut address: SocketAddr,
        mut sockets: Vec<TcpListener>,
        workers: &Workers,
    ) -> io::Result<Bind> {
        let unled =
            || io::Error::other("there are no packet programs to lead clients past whoever has the port");
        let lookup = self.lookup.as_ref().ok_or_else(unled)?;
        if self.barred.contains(&bind) {
            return Err(io::Error::other(
                "clients are not led past what may be a task on this node's network, or one that is connected to in their names (transparent)",
            ));
        }
        while sockets.len() < workers.count() {
            sockets.push(tcp(address, self.backlog, &self.keepalive)?);
            // The next ones join the first one's group.
            address = sockets[0].local_addr()?;
        }
        // Each of a group leads to all of it.
        let led = lookup.lead(bind, sockets[0].as_fd());
        led.map_err(io::Error::other)?;
        let at = Bind { address, ..bind };
        workers.listen(at, bind, sockets);
        Ok(at)
    }

    fn more(&self, count: usize, address: SocketAddr) -> impl Iterator<Item = io::Result<TcpListener>> {
        (0..count).map(move |_| tcp(address, self.backlog, &self.keepalive))
    }

    /// Those that could not be opened, and why.
    pub fn missing(&self) -> impl Iterator<Item = (Bind, &io::Error)> {
        self.failed.iter().map(|(bind, error)| (*bind, error))
    }

    /// Of those of TCP that are open.
    pub fn ports(&self) -> BTreeSet<(Family, u16)> {
        let tcp = self.open.keys().filter(|bind| bind.protocol == Protocol::Tcp);
        tcp.map(|bind| (Family::of(bind.address.ip()), bind.address.port()))
            .collect()
    }

    /// Whether datagrams of a family are heard.
    pub fn hear_datagrams(&self, family: Family) -> bool {
        let mut udp = self.open.keys().filter(|bind| bind.protocol == Protocol::Udp);
        udp.any(|bind| Family::of(bind.address.ip()) == family)
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

fn together<S>(mut sockets: Vec<S>, more: impl Iterator<Item = io::Result<S>>) -> io::Result<Vec<S>> {
    let are_some = !sockets.is_empty();
    for socket in more {
        match socket {
            Ok(socket) => sockets.push(socket),
            Err(_) if are_some => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// Of the same family, at a port that the kernel chooses.
const fn nowhere(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
    }
}

/// As the kernel takes it.
fn waiting(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// A listening socket for one worker. All workers have one at the same address, and the kernel shares the clients out
/// (SO_REUSEPORT).
fn tcp(address: SocketAddr, backlog: u32, keepalive: &TcpKeepalive) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(keepalive)?;
    socket.listen(waiting(backlog))?;
    Ok(socket.into())
}

/// Whether nobody listens there. A program that binds the port in that very moment may still not get it.
fn is_free(address: SocketAddr) -> bool {
    bound(address).is_ok()
}

/// An address that is not the machine's own yet, as a VIP may be, is bound all the same (IP_FREEBIND).
fn bound(address: SocketAddr) -> io::Result<Socket> {
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
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::plane::proxy::socket;

    #[test]
    fn accepted_clients_wait_for_no_acknowledgement_and_are_missed_when_they_vanish() {
        let silence = Duration::from_secs(77);
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = tcp(any, 1, &socket::keepalive(silence)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), silence);
    }
}
