//! Keeps the port open as long as it is wanted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::greet::Doorstep;
use super::limits::{AGAIN, BREATH};
use super::{Handle, Openness, Rooms};
use crate::pause::Pause;

pub struct Keeper {
    pub listen: SocketAddr,
    pub rooms: watch::Receiver<Rooms>,
    pub tell: watch::Sender<Openness>,
    pub handle: Handle,
    /// Another agent has the socket.
    pub retired: watch::Receiver<bool>,
}

impl Keeper {
    /// Ends when there is nobody left who could offer a room, or the door is retired. The first time it takes the socket that
    /// is `given`.
    pub async fn keep(mut self, mut given: Option<OwnedFd>) {
        self.note(given.as_ref());
        while self.rooms.wait_for(|rooms| !rooms.is_empty()).await.is_ok() && !*self.retired.borrow() {
            let open = match given.take() {
                Some(socket) => adopt(socket),
                None => TcpListener::bind(self.listen).await,
            };
            match open.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    self.note(Some(&listener));
                    self.tell.send_replace(Openness::Open(address));
                    self.admit(&listener).await;
                    self.note(None::<&TcpListener>);
                    drop(listener);
                    self.tell.send_replace(Openness::Closed);
                }
                Err(error) => {
                    self.tell.send_replace(Openness::Hindered(Arc::new(error)));
                    let closed = self.rooms.wait_for(Rooms::is_empty);
                    if tokio::time::timeout(AGAIN, closed).await.is_ok() {
                        self.tell.send_replace(Openness::Closed);
                    }
                }
            }
        }
    }

    /// Takes callers until there is no room for any: who is on the doorstep then is sent away. Or until another agent takes
    /// them: then the last ones are led in.
    async fn admit(&mut self, listener: &TcpListener) {
        let doorstep = Arc::new(Doorstep::default());
        let mut greetings = JoinSet::new();
        let mut pause = Pause::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_ended) = greetings.join_next() => continue,
                _closed = self.rooms.wait_for(Rooms::is_empty) => return,
                _retired = self.retired.wait_for(|retired| *retired) => break,
            };
            match accepted {
                Ok((socket, from)) => {
                    pause.end();
                    let rooms = self.rooms.borrow().clone();
                    if let Some(greeting) = doorstep.take(socket, from, rooms) {
                        greetings.spawn(greeting);
                    }
                }
                // Out of file descriptors, mostly.
                Err(error) => {
                    pause.begin(
                        || self.rooms.borrow().iter().for_each(|room| room.pause()),
                        || tracing::warn!("other agents wait in the backlog: {error}"),
                    );
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        while greetings.join_next().await.is_some() {}
    }

    fn note(&self, socket: Option<&impl AsFd>) {
        let socket = socket.and_then(|socket| socket.as_fd().try_clone_to_owned().ok());
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
