//! From a client to a task that takes it: the one its flow belongs to, or another where that one cannot be had. Nothing of
//! what the client says is lost meanwhile, as nothing has been read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::model::Node;
use crate::plane::proxy::Cause;
use crate::plane::proxy::fronts::{Bind, Front, Place};
use crate::plane::proxy::listen::SILENCE;
use crate::plane::proxy::live::Counted;
use crate::plane::proxy::relay::Relayed;
use crate::plane::proxy::socket::is_exhaustion;
use crate::plane::proxy::workers::Worker;

/// A task that has taken the client.
pub struct Dialled {
    pub task: Task,
    pub counted: Counted,
}

/// Where its socket is.
pub enum Task {
    Here(TcpStream),
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

/// Connects to the flow's task, else to the next one. Where nobody takes the client it may be this node that does not know yet who
/// there is: it waits for news and asks again, as long as [`Hold`](super::hold::Hold) has it.
pub async fn task(
    worker: &Worker,
    mut front: Arc<Front>,
    bind: Bind,
    client: &TcpStream,
    ends: Ends,
) -> Result<Dialled, Cause> {
    let mut pause = PAUSE;
    let mut place = None;
    loop {
        let cause = match once(worker, &front, bind, client, ends).await {
            Ok(dialled) => {
                worker.hold.over(bind);
                return Ok(dialled);
            }
            Err(cause) => cause,
        };
        let is_news_of_use = matches!(cause, Cause::NoMember | Cause::Refused | Cause::TimedOut);
        if !is_news_of_use || !worker.hold.may_wait(bind, &mut place) {
            return Err(cause);
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST.min(2 * pause);
        if is_gone(client) {
            return Err(Cause::Abandoned);
        }
        if let Some(latest) = worker.table.fronts.load().get(&bind) {
            front = Arc::clone(latest);
        }
    }
}

/// Asks as many tasks as the service has tried.
async fn once(
    worker: &Worker,
    front: &Front,
    bind: Bind,
    client: &TcpStream,
    ends: Ends,
) -> Result<Dialled, Cause> {
    let table = &worker.table;
    let rules = &front.service.proxy;
    let mut tried = Vec::new();
    let mut failed = Cause::NoMember;
    while tried.len() <= rules.retries as usize {
        let Some(member) = front.choose(ends.from, bind.address.port(), bind.protocol, &tried) else {
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
        let patience = rules.connect_timeout;
        let connected = match place {
            Place::Here(address) => here(address, patience).await,
            Place::There(node) => there(worker, node, tag, ends, patience).await,
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
        if is_gone(client) {
            return Err(Cause::Abandoned);
        }
    }
    Err(failed)
}

async fn here(address: SocketAddr, patience: Duration) -> io::Result<Task> {
    match timeout(patience, connect(address)).await {
        Ok(connected) => connected.map(Task::Here),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn there(
    worker: &Worker,
    node: &Node,
    tag: u64,
    Ends { from, to }: Ends,
    patience: Duration,
) -> io::Result<Task> {
    let relayed = worker.dialer.dial(node, tag, from, to, patience).await?;
    Ok(Task::There(Box::new(relayed)))
}

/// Whether the client has reset the connection. One that only says no more may well wait for an answer.
fn is_gone(client: &TcpStream) -> bool {
    !matches!(client.take_error(), Ok(None))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&SILENCE)?;
    socket.connect(address).await
}
