//! Listening sockets that another agent has opened, by where clients find them. Each is asked for that itself: nothing else is
//! believed about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{SockRef, Type};

use super::fronts::Bind;
use crate::model::Protocol;

/// Several at one place: its workers have one each.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<Bind, Vec<OwnedFd>>);

impl Sockets {
    /// Fails for what is no listening socket of TCP, or no bound one of UDP.
    pub fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        let bind = Self::bind(&socket)?;
        self.0.entry(bind).or_default().push(socket);
        Ok(())
    }

    /// Where a socket waits for clients.
    pub fn bind(socket: &OwnedFd) -> io::Result<Bind> {
        let strange = || io::Error::new(ErrorKind::InvalidInput, "no socket that clients find");
        let socket = SockRef::from(socket);
        let protocol = match socket.r#type()? {
            Type::STREAM if socket.is_listener()? => Protocol::Tcp,
            Type::DGRAM => Protocol::Udp,
            _ => return Err(strange()),
        };
        let address = socket.local_addr()?.as_socket().ok_or_else(strange)?;
        if address.port() == 0 {
            return Err(strange());
        }
        Ok(Bind { address, protocol })
    }

    /// What the kernel calls a socket, whatever the process calls it.
    pub fn identity(socket: &OwnedFd) -> io::Result<u64> {
        Ok(nix::sys::stat::fstat(socket)?.st_ino)
    }

    /// All of them.
    pub fn identities(&self) -> BTreeMap<Bind, BTreeSet<u64>> {
        let of = |sockets: &Vec<OwnedFd>| {
            sockets
                .iter()
                .filter_map(|socket| Self::identity(socket).ok())
                .collect()
        };
        self.0
            .iter()
            .map(|(bind, sockets)| (*bind, of(sockets)))
            .collect()
    }

    /// Clients find some of them elsewhere than where they are bound: `found` has where, by the cookie of one of those that are bound
    /// to the same address.
    pub fn rename(&mut self, found: &BTreeMap<u64, Bind>) {
        let name = |socket: &OwnedFd| found.get(&SockRef::from(socket).cookie().ok()?).copied();
        let named: Vec<(Bind, Bind)> = (self.0.iter())
            .filter_map(|(at, sockets)| Some((*at, sockets.iter().find_map(name)?)))
            .collect();
        for (at, bind) in named {
            let sockets = self.take(&at);
            self.0.insert(bind, sockets);
        }
    }

    pub fn take(&mut self, bind: &Bind) -> Vec<OwnedFd> {
        self.0.remove(bind).unwrap_or_default()
    }

    pub fn binds(&self) -> impl Iterator<Item = Bind> {
        self.0.keys().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().flatten().map(AsFd::as_fd)
    }

    /// Takes those of `others`, but for places where there are some already.
    pub fn fill(&mut self, others: Self) {
        for (bind, sockets) in others.0 {
            self.0.entry(bind).or_insert(sockets);
        }
    }

    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_says_itself_where_it_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let twin = listener.try_clone().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let mut sockets = Sockets::default();
        for socket in [listener.into(), twin.into(), udp.into()] {
            sockets.add(socket).unwrap();
        }
        let at = |protocol| Bind { address, protocol };
        assert_eq!(sockets.take(&at(Protocol::Tcp)).len(), 2);
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets.take(&at(Protocol::Udp)).len(), 1);
        assert!(sockets.is_empty());
    }

    #[test]
    fn sockets_that_clients_are_led_to_have_the_name_that_these_ask_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let cookie = SockRef::from(&listener).cookie().unwrap();
        let mut sockets = Sockets::default();
        sockets.add(listener.into()).unwrap();
        let bind = Bind {
            address: "192.0.2.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        sockets.rename(&[(cookie + 1, bind)].into());
        assert!(sockets.take(&bind).is_empty());
        sockets.rename(&[(cookie, bind)].into());
        assert_eq!(sockets.take(&bind).len(), 1);
        assert!(sockets.is_empty());
    }

    #[test]
    fn what_no_client_finds_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut sockets = Sockets::default();
        for strange in [OwnedFd::from(connected), pair.into(), file.into()] {
            sockets.add(strange).unwrap_err();
        }
        assert!(sockets.is_empty());
    }
}
