//! From the door to the threads that carry.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rustls::server::Accepted;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use super::limits::QUEUE;
use super::refusal::Refusal;
use super::{PROTOCOL, Shared};
use crate::door::{Caller, Refused, Room, Stranger};

/// A caller on its way from the runtime of the door to that of a lane.
pub struct Visitor {
    pub from: SocketAddr,
    pub socket: TcpStream,
    pub hello: Accepted,
    pub deadline: Instant,
    pub stranger: Stranger,
}

/// The lanes, each with its queue.
#[derive(Default)]
pub struct Lanes {
    lanes: Mutex<Vec<mpsc::Sender<Visitor>>>,
    turn: AtomicUsize,
}

impl Lanes {
    pub fn open(&self) -> mpsc::Receiver<Visitor> {
        let (lane, visitors) = mpsc::channel(QUEUE);
        self.lock().push(lane);
        visitors
    }

    /// To the next lane that has room.
    fn hand_on(&self, mut visitor: Visitor) -> Result<(), Refusal> {
        let mut lanes = self.lock();
        lanes.retain(|lane| !lane.is_closed());
        let turn = self.turn.fetch_add(1, Relaxed);
        for at in 0..lanes.len() {
            let lane = &lanes[(turn.wrapping_add(at)) % lanes.len()];
            match lane.try_send(visitor) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => visitor = back,
            }
        }
        Err(Refusal::Crowd)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Visitor>>> {
        self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The relay behind the door.
pub struct Entrance(pub Arc<Shared>);

impl Entrance {
    fn take(&self, caller: Caller) -> Result<(), Refusal> {
        let (hello, socket) = (caller.hello.accepted, caller.hello.io);
        let other = |error: std::io::Error| Refusal::Other(error.to_string());
        self.0.lanes.hand_on(Visitor {
            from: caller.from,
            socket: socket.into_std().map_err(other)?,
            hello,
            deadline: caller.deadline,
            stranger: caller.stranger,
        })
    }
}

impl Room for Entrance {
    fn protocol(&self) -> &'static [u8] {
        PROTOCOL
    }

    fn expects(&self, address: IpAddr) -> bool {
        self.0.library.book().has_node_at(address)
    }

    fn admit(&self, caller: Caller) {
        let from = caller.from;
        if let Err(refusal) = self.take(caller) {
            self.0.refuse(from, &refusal);
        }
    }

    fn refuse(&self, from: SocketAddr, refused: Refused) {
        let refusal = match refused {
            Refused::Silent => Refusal::Silent,
            Refused::Crowd => Refusal::Crowd,
            Refused::Broken(error) => Refusal::of_handshake(&error),
        };
        self.0.refuse(from, &refusal);
    }

    fn pause(&self) {
        self.0.figures.paused();
    }
}
