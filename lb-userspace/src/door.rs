//! The one TCP port between agents, `[peer] port`: several protocols behind it, told apart by what a caller's TLS asks for
//! (ALPN, RFC 7301).
//!
//! What is known of a caller before its handshake is its address alone, so handshakes are bounded by address and in time.
//! Whom a caller has to be to get further is the affair of the [`Room`] it asks for.

mod complaints;
mod crowd;
mod greet;
mod keep;
mod limits;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::StartHandshake;

pub use complaints::Complaints;
pub use crowd::{Counted, Crowd};
pub use greet::{Stranger, part};
pub use limits::HANDSHAKE;

/// What is behind the door.
pub trait Room: Send + Sync + 'static {
    /// As callers name it in their hello.
    fn protocol(&self) -> &'static [u8];

    /// Whether many at a time may come from this address before they have shown who they are.
    fn expects(&self, address: IpAddr) -> bool;

    /// A caller that asks for this room, or for none that there is: the configuration that its handshake goes on with then
    /// tells it so. Must not wait; called within the runtime of the door.
    fn admit(&self, caller: Caller);

    /// Somebody who did not get so far as to ask for a room, if this is the one that is told of them.
    fn refuse(&self, from: SocketAddr, refused: Refused);

    /// Callers wait, as nobody can be accepted. Told once until somebody is again.
    fn pause(&self) {}
}

/// Somebody who has asked for something.
pub struct Caller {
    pub from: SocketAddr,
    /// Where its handshake is.
    pub hello: StartHandshake<TcpStream>,
    /// By when the handshake has to be finished.
    pub deadline: Instant,
    /// Held until it is.
    pub stranger: Stranger,
}

/// Why somebody did not get so far as to ask.
#[derive(Debug)]
pub enum Refused {
    /// Said nothing in time.
    Silent,
    /// One of too many.
    Crowd,
    /// Does not speak TLS.
    Broken(io::Error),
}

/// Whether there is somebody to ask at the port.
#[derive(Clone, Debug, Default)]
pub enum Openness {
    /// There is no room behind it.
    #[default]
    Closed,
    Open(SocketAddr),
    /// The port cannot be had; it is tried again.
    Hindered(Arc<io::Error>),
}

type Rooms = Vec<Arc<dyn Room>>;

/// The port, open as long as there is a room behind it. Cheap to clone; with the last clone and the last [`Offer`] it closes.
#[derive(Clone)]
pub struct Door {
    listen: SocketAddr,
    rooms: Arc<watch::Sender<Rooms>>,
    openness: watch::Receiver<Openness>,
    /// A handle of the listening socket, while there is one.
    socket: Handle,
    retired: Arc<watch::Sender<bool>>,
}

type Handle = Arc<Mutex<Option<OwnedFd>>>;

/// A room behind a door, as long as it lives.
pub struct Offer {
    door: Door,
    room: Arc<dyn Room>,
}

impl Door {
    /// Must be called within the runtime.
    pub fn new(listen: SocketAddr) -> Self {
        Self::given(listen, None)
    }

    /// The same, with a socket that listens there already: callers wait in it until there is a room.
    pub fn given(listen: SocketAddr, socket: Option<OwnedFd>) -> Self {
        let (rooms, offered) = watch::channel(Rooms::new());
        let (tell, openness) = watch::channel(Openness::default());
        let (handle, (retired, retiring)) = (Handle::default(), watch::channel(false));
        let keeper = keep::Keeper {
            listen,
            rooms: offered,
            tell,
            handle: Arc::clone(&handle),
            retired: retiring,
        };
        tokio::spawn(keeper.keep(socket));
        Self {
            listen,
            rooms: Arc::new(rooms),
            openness,
            socket: handle,
            retired: Arc::new(retired),
        }
    }

    /// Admits nobody any more, for good: another agent has the socket. Waits for those who are on the doorstep.
    pub async fn retire(&self) {
        self.retired.send_replace(true);
        let mut openness = self.openness();
        let closed = openness.wait_for(|openness| !matches!(openness, Openness::Open(_)));
        // It may have ended already.
        let _ = closed.await;
    }

    /// A handle of the socket that callers find, where it is open.
    pub fn lend(&self) -> Option<OwnedFd> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref()?.try_clone().ok()
    }

    /// Who asks for no room, or for one that is not there, is led to the newest.
    pub fn offer(&self, room: Arc<dyn Room>) -> Offer {
        self.rooms.send_modify(|rooms| rooms.push(Arc::clone(&room)));
        Offer {
            door: self.clone(),
            room,
        }
    }

    /// Where it is to be.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub fn openness(&self) -> watch::Receiver<Openness> {
        self.openness.clone()
    }

    /// Waits until it is open, and says where.
    pub async fn address(&self) -> io::Result<SocketAddr> {
        let mut openness = self.openness();
        loop {
            if let Openness::Open(address) = *openness.borrow_and_update() {
                return Ok(address);
            }
            let ended = |_| io::Error::from(io::ErrorKind::NotConnected);
            openness.changed().await.map_err(ended)?;
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let own = |room: &Arc<dyn Room>| Arc::ptr_eq(room, &self.room);
        self.door
            .rooms
            .send_modify(|rooms| rooms.retain(|room| !own(room)));
    }
}
