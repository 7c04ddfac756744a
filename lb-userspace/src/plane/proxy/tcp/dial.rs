//! From a client to a task that takes it: the one its flow belongs to, or another where that one cannot be had. Nothing of
//! what the client says is lost meanwhile, as nothing has been read.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::time::timeout;

use super::carrier::Reached;
use crate::model::{Algorithm, Member, Node};
use crate::plane::proxy::Cause;
use crate::plane::proxy::fronts::{Bind, Front, Place};
use crate::plane::proxy::live::Counted;
use crate::plane::proxy::relay::Relayed;
use crate::plane::proxy::socket::{attempt, is_exhaustion};
use crate::plane::proxy::workers::Worker;

/// A task that has taken the client.
pub struct Dialled {
    pub task: Task,
    pub counted: Counted,
}

/// Where its socket is.
pub enum Task {
    Here(Reached),
    /// Behind the agent of another node.
    There(Box<Relayed>),
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub from: SocketAddr,
    /// What it has connected to.
    pub to: SocketAddr,
}

/// Before all are asked again, and at most: each time is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// A client for whom a task is wanted.
pub struct Dial<'c> {
    pub worker: &'c Worker,
    pub bind: Bind,
    pub client: &'c TcpStream,
    pub ends: Ends,
    /// For the first task that is asked. Made when the client was accepted: who has a descriptor here finds the second one, too.
    pub socket: Option<Socket>,
    /// The client has been heard to have left.
    pub is_reset: bool,
}

impl Dial<'_> {
    /// Connects to the flow's task, else to the next one. Where nobody takes the client it may be this node that does not know yet
    /// who there is: it waits for news and asks those that it has not asked yet, then all again, as long as
    /// [`Hold`](super::hold::Hold) has it.
    pub async fn task(mut self, mut front: Arc<Front>) -> Result<Dialled, Cause> {
        let hold = &self.worker.hold;
        let mut pause = PAUSE;
        let mut place = None;
        let mut tried = Vec::new();
        loop {
            let cause = match self.once(&front, &mut tried).await {
                Ok(dialled) => {
                    hold.over(self.bind);
                    return Ok(dialled);
                }
                Err(cause) => cause,
            };
            if cause == Cause::Abandoned || !hold.may_wait(self.bind, &mut place) {
                return Err(cause);
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST.min(2 * pause);
            if self.is_gone() {
                return Err(Cause::Abandoned);
            }
            if let Some(latest) = self.worker.table.fronts.load().get(&self.bind) {
                if latest.family() != front.family() {
                    // It will not do for tasks of the other one.
                    self.socket = None;
                }
                front = Arc::clone(latest);
            }
            if self.choose(&front, &tried).is_none() {
                // All have been asked.
                tried.clear();
            }
        }
    }

    /// The next task to be asked; none: nobody is left.
    fn choose<'f>(&self, front: &'f Front, tried: &[u64]) -> Option<&'f Member> {
        let (port, protocol) = (self.bind.address.port(), self.bind.protocol);
        match front.service.proxy.algorithm {
            Algorithm::Hash => front.choose(self.ends.from, port, protocol, tried),
            Algorithm::LeastConnections => {
                let load = |tag| self.worker.table.live.load(tag);
                front.choose_lighter(self.ends.from, port, protocol, tried, load)
            }
        }
    }

    /// Asks as many tasks as the service has tried at once.
    async fn once(&mut self, front: &Front, tried: &mut Vec<u64>) -> Result<Dialled, Cause> {
        let table = &self.worker.table;
        let rules = &front.service.proxy;
        let mut failed = Cause::NoMember;
        for _ in 0..=rules.retries {
            let Some(member) = self.choose(front, tried) else {
                break;
            };
            if !tried.is_empty() {
                table.counters.retries.fetch_add(1, Ordering::Relaxed);
            }
            let tag = member.candidate.tag;
            tried.push(tag);
            let place = front.place(member, &table.node);
            let (Some(counted), Some(place)) = (table.live.count(tag), place) else {
                continue;
            };
            let connected = match place {
                Place::Here(address) => self.here(address, rules.connect_timeout).await,
                Place::There(node) => self.there(node, tag, rules.connect_timeout).await,
            };
            match connected {
                Ok(task) => return Ok(Dialled { task, counted }),
                Err(error) => {
                    tracing::debug!(task = %member.task, %error, "not connected");
                    failed = match error.kind() {
                        io::ErrorKind::TimedOut => Cause::TimedOut,
                        _ if is_exhaustion(&error) => Cause::Exhausted,
                        _ => Cause::Refused,
                    };
                }
            }
            // Who is gone need not be connected to anybody.
            if self.is_gone() {
                return Err(Cause::Abandoned);
            }
        }
        Err(failed)
    }

    async fn here(&mut self, address: SocketAddr, patience: Duration) -> io::Result<Task> {
        let ways = &self.worker.table.ways;
        let has_spoken = self.socket.is_some() && self.has_spoken()?;
        let socket = self.socket.take();
        if let Some(socket) = &socket
            && has_spoken
        {
            // What it has said is the handshake's last acknowledgement, too. Where the task is to speak first that would be late.
            let _ = socket.set_tcp_quickack(false);
        }
        let connect = async |socket, task| self.worker.carrier.connect(socket, task).await;
        let connecting = ways.connect(address, self.ends.from, socket, connect);
        match timeout(patience, connecting).await {
            Ok(connected) => connected.map(Task::Here),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn there(&mut self, node: &Node, tag: u64, patience: Duration) -> io::Result<Task> {
        // Another one takes its place.
        self.socket = None;
        let Ends { from, to } = self.ends;
        let relayed = self.worker.dialer.dial(node, tag, from, to, patience).await?;
        Ok(Task::There(Box::new(relayed)))
    }

    /// Whether bytes of the client wait for its task. Fails for one that has reset its connection: the kernel says so once.
    fn has_spoken(&mut self) -> io::Result<bool> {
        let seen = attempt(|| SockRef::from(self.client).peek(&mut [MaybeUninit::uninit()]));
        self.is_reset |= seen.is_err();
        Ok(seen? == Some(1))
    }

    /// Whether the client has reset the connection. One that only says no more may well wait for an answer.
    fn is_gone(&self) -> bool {
        self.is_reset || !matches!(self.client.take_error(), Ok(None))
    }
}
