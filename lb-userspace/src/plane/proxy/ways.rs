//! How tasks of this node are connected to: from an address of this machine, or from their clients' own.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::beside::Backs;
use super::socket::for_task;
use crate::model::{Family, Protocol};

/// A port of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// Read by all workers.
#[derive(Debug)]
pub struct Ways {
    keepalive: TcpKeepalive,
    /// Tasks whose answers come back here whatever their destination, and the network that each shares with others: what a
    /// neighbour is answered never comes by this machine.
    tasks: ArcSwap<HashMap<Task, IpNet>>,
    /// Of packet programs beside the proxy.
    backs: Option<Arc<dyn Backs>>,
}

impl Default for Ways {
    /// To nobody from a client's address, and with the kernel's own keepalive.
    fn default() -> Self {
        Self::new(TcpKeepalive::new(), None)
    }
}

impl Ways {
    pub fn new(keepalive: TcpKeepalive, backs: Option<Arc<dyn Backs>>) -> Self {
        Self {
            keepalive,
            tasks: ArcSwap::default(),
            backs,
        }
    }

    /// These tasks are connected to from their clients' addresses from now on, and no others.
    pub fn lead_back(&self, tasks: HashMap<Task, IpNet>) {
        self.tasks.store(Arc::new(tasks));
    }

    /// For a connection to a task from an address of this machine.
    pub fn socket(&self, family: Family) -> io::Result<Socket> {
        for_task(family, &self.keepalive)
    }

    /// Has a task connected to for a client, by that socket where there is one already and it will do.
    pub async fn connect<S>(
        &self,
        task: SocketAddr,
        client: SocketAddr,
        socket: Option<Socket>,
        connect: impl AsyncFn(Socket, SocketAddr) -> io::Result<S>,
    ) -> io::Result<S> {
        let family = Family::of(task.ip());
        if let Some(source) = self.source(Protocol::Tcp, task, client) {
            // The client's own port, too, unless it has a connection of that port to this task already.
            let has_way = self.has_way_back(Protocol::Tcp, task, source);
            for port in [source.port(), 0].into_iter().skip(usize::from(has_way)) {
                match self.bound(family, SocketAddr::new(source.ip(), port)) {
                    Ok(socket) => match connect(socket, task).await {
                        Err(error) if is_taken(&error) => {}
                        connected => return connected,
                    },
                    Err(error) if is_taken(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let socket = match socket {
            Some(socket) => socket,
            None => self.socket(family)?,
        };
        connect(socket, task).await
    }

    /// A socket for the datagrams of one client to a task, connected to it. Does not wait, and nothing is sent.
    pub fn datagrams(&self, task: SocketAddr, client: SocketAddr) -> io::Result<UdpSocket> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = || Socket::new(Domain::for_address(task), kind, Some(socket2::Protocol::UDP));
        if let Some(source) = self.source(Protocol::Udp, task, client) {
            for port in [source.port(), 0, 0] {
                let socket = socket()?;
                become_transparent(&socket, Family::of(task.ip()))?;
                match socket.bind(&SocketAddr::new(source.ip(), port).into()) {
                    Ok(()) => {}
                    Err(error) if is_taken(&error) => continue,
                    Err(error) => return Err(error),
                }
                socket.connect(&task.into())?;
                let socket = UdpSocket::from(socket);
                // Only then: packet programs ask for such a socket before they make a way back themselves.
                if !self.has_way_back(Protocol::Udp, task, socket.local_addr()?) {
                    return Ok(socket);
                }
            }
        }
        let socket = socket()?;
        socket.connect(&task.into())?;
        Ok(socket.into())
    }

    /// Whether what a task answers a client's address and port goes another way than to a socket here.
    fn has_way_back(&self, protocol: Protocol, address: SocketAddr, client: SocketAddr) -> bool {
        let task = Task { protocol, address };
        self.backs.as_ref().is_some_and(|backs| backs.has(task, client))
    }

    /// From where a task is connected to for a client; none: from this machine's own address.
    fn source(&self, protocol: Protocol, task: SocketAddr, client: SocketAddr) -> Option<SocketAddr> {
        let tasks = self.tasks.load();
        let network = tasks.get(&Task {
            protocol,
            address: task,
        })?;
        // As sockets for both families name clients of IPv4.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let leads_back = Family::of(client.ip()) == Family::of(task.ip())
            && !client.ip().is_loopback()
            && !network.contains(&client.ip());
        leads_back.then_some(client)
    }

    fn bound(&self, family: Family, source: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(family)?;
        become_transparent(&socket, family)?;
        socket.set_reuse_address(true)?;
        if source.port() == 0 {
            // Chosen when it is known where to: not one of all connections from this client.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
        }
        socket.bind(&source.into())?;
        Ok(socket)
    }
}

fn become_transparent(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true),
        Family::V6 => socket.set_ip_transparent_v6(true),
    }
}

/// Of a port.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ways(task: &str, network: &str) -> Ways {
        let ways = Ways::default();
        let task = Task {
            protocol: Protocol::Tcp,
            address: task.parse().unwrap(),
        };
        ways.lead_back(HashMap::from([(task, network.parse().unwrap())]));
        ways
    }

    #[test]
    fn a_clients_address_is_kept_where_the_answer_comes_by_this_machine() {
        let ways = ways("172.18.0.2:80", "172.18.0.0/16");
        let source = |task: &str, client: &str| {
            ways.source(Protocol::Tcp, task.parse().unwrap(), client.parse().unwrap())
        };
        let client = "198.51.100.10:40000";
        assert_eq!(source("172.18.0.2:80", client), Some(client.parse().unwrap()));
        assert_eq!(
            source("172.18.0.2:80", "[::ffff:198.51.100.10]:40000"),
            Some(client.parse().unwrap())
        );
        assert_eq!(source("172.18.0.3:80", client), None, "nobody asks for it");
        assert_eq!(source("172.18.0.2:81", client), None, "nor for this port");
        for client in ["172.18.0.9:40000", "127.0.0.1:40000", "[2001:db8::10]:40000"] {
            assert_eq!(source("172.18.0.2:80", client), None, "{client}");
        }
    }

    /// Packet programs that have one flow.
    #[derive(Debug)]
    struct One(Task, SocketAddr);

    impl Backs for One {
        fn has(&self, task: Task, client: SocketAddr) -> bool {
            (task, client) == (self.0, self.1)
        }
    }

    #[tokio::test]
    async fn a_port_whose_way_back_is_that_of_packet_programs_is_another_ones() {
        let client: SocketAddr = "198.51.100.10:40000".parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let task = Task { protocol, address };
            let ways = Ways::new(TcpKeepalive::new(), Some(Arc::new(One(task, client))));
            ways.lead_back(HashMap::from([(task, address.ip().into())]));
            for (port, is_kept) in [(40_000, false), (40_001, true)] {
                let client = SocketAddr::new(client.ip(), port);
                let from = match protocol {
                    Protocol::Udp => ways.datagrams(address, client).unwrap().local_addr().unwrap(),
                    Protocol::Tcp => {
                        let bound = async |socket: Socket, _| socket.local_addr();
                        let bound = ways.connect(address, client, None, bound).await.unwrap();
                        bound.as_socket().unwrap()
                    }
                };
                assert_eq!(from.ip(), client.ip());
                assert_eq!(from.port() == port, is_kept, "{protocol:?} from {client}: {from}");
            }
        }
    }
}
