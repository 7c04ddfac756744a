//! Everything together, running.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::config::{Config, ConfigError};
use crate::directory::Directory;
use crate::handler::Handler;
use crate::listen::tcp::{self, Connections};
use crate::listen::udp;
use crate::service::Service;
use crate::statistics::Statistics;

/// A running server; dropping it stops it.
pub struct Server {
    service: Arc<Service>,
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}/{protocol}: {error}")]
    Listen {
        address: SocketAddr,
        protocol: &'static str,
        error: io::Error,
    },
}

impl Server {
    /// Binds all addresses, then serves them in tasks of the current tokio runtime. Port 0 takes a free port.
    ///
    /// # Errors
    /// The configuration is wrong, or an address cannot be bound; then nothing is served.
    pub fn start(config: &Config, directory: Arc<dyn Directory>) -> Result<Self, StartError> {
        let service = Arc::new(Service::new(config, directory)?);
        let mut server = Self {
            service,
            addresses: Vec::new(),
            tasks: JoinSet::new(),
        };
        server.service.watch_upstreams(&mut server.tasks);
        let connections = Arc::new(Connections::new(config.tcp));
        for address in &config.listen {
            let sockets = bind(*address, sockets(config))?;
            server.addresses.push(sockets.address);
            server.serve(sockets, &connections);
        }
        Ok(server)
    }

    fn serve(&mut self, sockets: Sockets, connections: &Arc<Connections>) {
        let Sockets {
            address,
            datagrams,
            listener,
        } = sockets;
        for socket in datagrams {
            let service = Arc::clone(&self.service);
            self.tasks.spawn(async move {
                if let Err(error) = udp::serve(service, Arc::new(socket)).await {
                    tracing::error!(%address, %error, "no longer serving UDP");
                }
            });
        }
        let service = Arc::clone(&self.service);
        self.tasks
            .spawn(tcp::serve(service, listener, Arc::clone(connections)));
    }

    /// In the order of [`Config::listen`], with the ports that were taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers as this server does, with the same memory and counters, without its sockets.
    pub fn handler(&self) -> Handler {
        Handler::of(&self.service)
    }

    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.service.statistics)
    }
}

/// All that listens on one address.
struct Sockets {
    address: SocketAddr,
    datagrams: Vec<UdpSocket>,
    listener: TcpListener,
}

fn sockets(config: &Config) -> usize {
    match config.sockets {
        0 => available_parallelism().map_or(1, usize::from),
        sockets => sockets,
    }
}

/// Binds one address; where any port will do, one that is free for both protocols.
fn bind(address: SocketAddr, count: usize) -> Result<Sockets, StartError> {
    const TRIES: usize = 10;
    let mut result = bind_once(address, count);
    for _ in 1..TRIES {
        if address.port() != 0 || result.is_ok() {
            break;
        }
        result = bind_once(address, count);
    }
    result
}

fn bind_once(mut address: SocketAddr, count: usize) -> Result<Sockets, StartError> {
    let mut datagrams = Vec::new();
    for _ in 0..count {
        let socket = udp::bind(address).map_err(listen_error(address, "udp"))?;
        // All share the port that the first was given.
        address = socket.local_addr().map_err(listen_error(address, "udp"))?;
        datagrams.push(socket);
    }
    let listener = tcp::bind(address).map_err(listen_error(address, "tcp"))?;
    Ok(Sockets {
        address,
        datagrams,
        listener,
    })
}

fn listen_error(address: SocketAddr, protocol: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Listen {
        address,
        protocol,
        error,
    }
}
