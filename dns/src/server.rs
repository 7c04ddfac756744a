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
    config: Config,
    connections: Arc<Connections>,
    listeners: Vec<Listener>,
    /// Bound, and not served before [`Self::open`]; `None` after it.
    waiting: Option<Vec<Sockets>>,
    /// Looks after the upstreams; stops when dropped.
    _watch: JoinSet<()>,
}

/// What serves one address; stops when dropped.
struct Listener {
    address: SocketAddr,
    _tasks: JoinSet<()>,
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
    /// Binds all addresses, then serves them in tasks of the current tokio runtime.
    ///
    /// # Errors
    /// The configuration is wrong, or an address cannot be bound; then nothing is served.
    pub fn start(config: &Config, directory: Arc<dyn Directory>) -> Result<Self, StartError> {
        let mut server = Self::new(config, directory)?;
        for address in &config.listen {
            server.listen(*address)?;
        }
        server.open();
        Ok(server)
    }

    /// A server that listens on nothing yet. What is asked at addresses that are given to [`Self::listen`] waits in their
    /// sockets until [`Self::open`]: for a directory that will soon know its names, that is better than a wrong answer.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(config: &Config, directory: Arc<dyn Directory>) -> Result<Self, ConfigError> {
        let service = Arc::new(Service::new(config, directory)?);
        let mut watch = JoinSet::new();
        service.watch_upstreams(&mut watch);
        Ok(Self {
            service,
            config: config.clone(),
            connections: Arc::new(Connections::new(config.tcp)),
            listeners: Vec::new(),
            waiting: Some(Vec::new()),
            _watch: watch,
        })
    }

    /// Answers what has been asked, and from now on at once.
    pub fn open(&mut self) {
        for sockets in self.waiting.take().into_iter().flatten() {
            let listener = self.serve(sockets);
            self.listeners.push(listener);
        }
    }

    /// Serves one address more, a bridge's that has just come, say; returns it with the port that was taken, which is any
    /// free one for port 0.
    ///
    /// # Errors
    /// An upstream has this address, or it cannot be bound.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let config = Config {
            listen: vec![address],
            ..self.config.clone()
        };
        config.validate()?;
        let sockets = bind(address, &self.config)?;
        let address = sockets.address;
        match &mut self.waiting {
            Some(waiting) => waiting.push(sockets),
            None => {
                let listener = self.serve(sockets);
                self.listeners.push(listener);
            }
        }
        Ok(address)
    }

    /// Stops serving an address; whether it was served. It is free as soon as the runtime has dropped its tasks.
    pub fn unlisten(&mut self, address: SocketAddr) -> bool {
        let before = self.addresses().count();
        self.listeners.retain(|listener| listener.address != address);
        if let Some(waiting) = &mut self.waiting {
            waiting.retain(|sockets| sockets.address != address);
        }
        self.addresses().count() < before
    }

    fn serve(&self, sockets: Sockets) -> Listener {
        let Sockets {
            address,
            datagrams,
            listener,
        } = sockets;
        let mut tasks = JoinSet::new();
        for socket in datagrams {
            let service = Arc::clone(&self.service);
            tasks.spawn(async move {
                if let Err(error) = udp::serve(service, Arc::new(socket)).await {
                    tracing::error!(%address, %error, "no longer serving UDP");
                }
            });
        }
        let (service, connections) = (Arc::clone(&self.service), Arc::clone(&self.connections));
        tasks.spawn(tcp::serve(service, listener, connections));
        Listener {
            address,
            _tasks: tasks,
        }
    }

    /// What is listened on, in the order it was asked for, with the ports that were taken.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let served = self.listeners.iter().map(|listener| listener.address);
        let waiting = self.waiting.iter().flatten().map(|sockets| sockets.address);
        served.chain(waiting)
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
fn bind(address: SocketAddr, config: &Config) -> Result<Sockets, StartError> {
    const TRIES: usize = 10;
    let mut result = bind_once(address, config);
    for _ in 1..TRIES {
        if address.port() != 0 || result.is_ok() {
            break;
        }
        result = bind_once(address, config);
    }
    result
}

fn bind_once(mut address: SocketAddr, config: &Config) -> Result<Sockets, StartError> {
    // UDP sockets would share the port with those of another server that shares it, and take some of its queries each
    // time this is tried; a listener refuses.
    let listener = tcp::bind(address, config.freebind).map_err(listen_error(address, "tcp"))?;
    // All have the port that it was given.
    address = listener.local_addr().map_err(listen_error(address, "tcp"))?;
    let mut datagrams = Vec::new();
    for _ in 0..sockets(config) {
        datagrams.push(udp::bind(address, config.freebind).map_err(listen_error(address, "udp"))?);
    }
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
