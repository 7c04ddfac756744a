//! A caller on the doorstep: from the first packet to its hello, which says what it has come for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::crowd::{Counted, Crowd};
use super::limits::{EXPECTED, FAREWELL, HANDSHAKE, HANDSHAKES, UNEXPECTED};
use super::{Caller, Refused, Room, Rooms};

/// All whose handshake is under way.
pub struct Doorstep {
    places: Arc<Semaphore>,
    strangers: Arc<Crowd<IpAddr>>,
}

/// A place on the doorstep, to be given up once the handshake is finished.
pub struct Stranger {
    _place: OwnedSemaphorePermit,
    _one: Counted<IpAddr>,
}

impl Default for Doorstep {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(HANDSHAKES)),
            strangers: Arc::default(),
        }
    }
}

impl Doorstep {
    /// What is to be done with a caller, if it is not one too many.
    pub fn take(
        &self,
        socket: TcpStream,
        from: SocketAddr,
        rooms: Rooms,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let expected = rooms.iter().any(|room| room.expects(from.ip().to_canonical()));
        match self.place(from.ip(), if expected { EXPECTED } else { UNEXPECTED }) {
            Some(stranger) => Some(greet(socket, from, rooms, stranger)),
            None => {
                refuse(&rooms, from, Refused::Crowd);
                None
            }
        }
    }

    fn place(&self, address: IpAddr, most: usize) -> Option<Stranger> {
        Some(Stranger {
            _one: Crowd::enter(&self.strangers, address, most)?,
            _place: Arc::clone(&self.places).try_acquire_owned().ok()?,
        })
    }
}

async fn greet(socket: TcpStream, from: SocketAddr, rooms: Rooms, stranger: Stranger) {
    let deadline = Instant::now() + HANDSHAKE;
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    match timeout_at(deadline, &mut acceptor).await {
        Ok(Ok(hello)) => {
            let room = asked_for(&rooms, hello.client_hello().alpn());
            if let Some(room) = room {
                room.admit(Caller {
                    from,
                    hello,
                    deadline,
                    stranger,
                });
            }
        }
        Ok(Err(error)) => {
            refuse(&rooms, from, Refused::Broken(error));
            if let Some(socket) = acceptor.take_io() {
                part(socket).await;
            }
        }
        Err(_) => refuse(&rooms, from, Refused::Silent),
    }
}

fn asked_for<'r, 'p>(
    rooms: &'r Rooms,
    asked: Option<impl Iterator<Item = &'p [u8]>>,
) -> Option<&'r Arc<dyn Room>> {
    let mut asked = asked.into_iter().flatten();
    let named = asked.find_map(|name| rooms.iter().find(|room| room.protocol() == name));
    named.or(rooms.last())
}

fn refuse(rooms: &Rooms, from: SocketAddr, refused: Refused) {
    if let Some(room) = rooms.last() {
        room.refuse(from, refused);
    }
}

/// Closing at once would take back what was written: the reason.
pub async fn part(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let farewell = async {
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        // Bounded by the time it may take.
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, farewell).await;
}
