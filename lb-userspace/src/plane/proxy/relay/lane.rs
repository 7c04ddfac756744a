//! The owner's side: who calls, what for, and the task that it is for.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use socket2::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::Shared;
use super::carry::{Passed, carry};
use super::entrance::Visitor;
use super::limits::{ASKING, CALLERS, TASK};
use super::refusal::Refusal;
use super::trunk;
use super::wire::Wire;
use crate::door::part;
use crate::plane::proxy::Cause;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::Transport;
use crate::plane::proxy::header::relay_header::{self, Purpose, Wanted};
use crate::plane::proxy::live::{Counted, Live};
use crate::plane::proxy::socket::{CutOff, is_exhaustion};
use crate::plane::proxy::udp;
use crate::plane::proxy::ways::Ways;

/// Carries for other nodes in the runtime that runs it.
pub struct Lane {
    shared: Arc<Shared>,
    visitors: mpsc::Receiver<Visitor>,
    /// For those who have not asked for anything yet, and how long each may take.
    pub(super) waiting: Arc<Semaphore>,
    pub(super) asking: Duration,
}

/// What a caller has come to.
enum Asked {
    For(Wanted),
    /// To bring the datagrams of its clients.
    Datagrams,
    /// It has gone: a spare that was not used.
    Nothing,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            visitors: shared.lanes.open(),
            shared,
            waiting: Arc::new(Semaphore::new(CALLERS)),
            asking: ASKING,
        }
    }

    /// Does not end by itself; what it carries goes on when it is dropped, as long as the runtime does.
    /// Tasks are connected to by `ways`; connections to `live`'s members are counted there, and end with them. Datagrams are
    /// carried with `udp`, which is this thread's.
    pub async fn run(mut self, live: Arc<Live>, ways: Arc<Ways>, udp: Rc<udp::Worker>) {
        while let Some(visitor) = self.visitors.recv().await {
            let (shared, waiting) = (Arc::clone(&self.shared), Arc::clone(&self.waiting));
            let asking = self.asking;
            let (live, ways, udp) = (Arc::clone(&live), Arc::clone(&ways), Rc::clone(&udp));
            tokio::task::spawn_local(async move {
                let from = visitor.from;
                if let Err(refusal) = attend(&shared, (&waiting, asking), live, &ways, udp, visitor).await {
                    shared.refuse(from, &refusal);
                }
            });
        }
    }
}

async fn attend(
    shared: &Arc<Shared>,
    (waiting, asking): (&Semaphore, Duration),
    live: Arc<Live>,
    ways: &Ways,
    udp: Rc<udp::Worker>,
    visitor: Visitor,
) -> Result<(), Refusal> {
    let from = visitor.from;
    let mut node = shake_hands(shared, visitor).await?;
    let place = waiting.try_acquire().map_err(|_| Refusal::Crowd)?;
    let asked = timeout(asking, listen(&mut node)).await;
    drop(place);
    // Without an answer: who is about to ask just now does so over another connection.
    let wanted = match asked.map_err(|_| Refusal::Silent)? {
        Ok(Asked::Nothing) => return Ok(()),
        // Only now: it may have become known while it waited, or be gone from the cluster.
        Ok(asked) => recognize(shared, &node, from).map(|name| (asked, name)),
        Err(refusal) => Err(refusal),
    };
    let wanted = match wanted {
        Ok((Asked::For(wanted), _)) => wanted,
        Ok((_, name)) => return trunk::serve(shared, node, (name, from), live, udp).await,
        Err(refusal) => {
            tell(shared, node, answer_of(&refusal)).await;
            return Err(refusal);
        }
    };
    // A caller that has lost patience resets the connection.
    let gone = node.get_ref().0.clone().broken();
    let connected = tokio::select! {
        connected = connect(shared, ways, &wanted) => connected,
        () = gone => return Ok(()),
    };
    match connected {
        Ok((task, generation)) => {
            let counted = count(&live, wanted.member, generation);
            serve(shared, node, task, counted).await;
        }
        Err(answer) => {
            tracing::debug!(%from, client = %wanted.client, front = %wanted.front, "not relayed: {answer}");
            tell(shared, node, answer).await;
        }
    }
    Ok(())
}

async fn shake_hands(shared: &Shared, visitor: Visitor) -> Result<TlsStream<Wire>, Refusal> {
    let socket = TcpStream::from_std(visitor.socket).map_err(|error| Refusal::Other(error.to_string()))?;
    let hello = StartHandshake::from_parts(visitor.hello, Wire::new(socket, &shared.keepalive));
    let config = Arc::clone(&shared.identity.server);
    let handshake = hello.into_stream(config).into_fallible();
    let outcome = timeout_at(visitor.deadline, handshake).await;
    drop(visitor.stranger);
    match outcome {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, wire))) => {
            tokio::spawn(part(wire));
            Err(Refusal::of_handshake(&error))
        }
        Err(_) => Err(Refusal::Silent),
    }
}

/// The node that calls. The authority has vouched for its name; that it is a node of the cluster, the snapshot has to say.
fn recognize(shared: &Shared, node: &TlsStream<Wire>, from: SocketAddr) -> Result<Arc<str>, Refusal> {
    let shown = node.get_ref().1.peer_certificates();
    let shown = shown.and_then(<[_]>::first).ok_or(Refusal::Certificate)?;
    shared.library.book().node_of(shown, from.ip())
}

/// Reads the header, which is all that is said before the answer.
async fn listen(node: &mut TlsStream<Wire>) -> Result<Asked, Refusal> {
    let malformed = |why: &dyn ToString| Refusal::Malformed(why.to_string());
    let mut bytes = Vec::with_capacity(128);
    loop {
        match relay_header::purpose(&bytes) {
            Ok(Some((purpose, length))) if length == bytes.len() => {
                return match purpose {
                    Purpose::Trunk => Ok(Asked::Datagrams),
                    Purpose::Connection(wanted) if wanted.transport == Transport::Stream => {
                        Ok(Asked::For(wanted))
                    }
                    Purpose::Connection(_) => Err(malformed(&"a flow that is not one of many")),
                };
            }
            Ok(Some(_)) => return Err(malformed(&"more than a header before the answer")),
            Ok(None) => {}
            Err(fault) => return Err(malformed(&fault)),
        }
        match node.read_buf(&mut bytes).await {
            Ok(0) => return Ok(Asked::Nothing),
            Ok(_) => {}
            // With TLS 1.3 a caller hears only now that it is not believed, and this side that it is not.
            Err(error) => return Refusal::behind(&error).map_or(Ok(Asked::Nothing), Err),
        }
    }
}

/// A connection to the task, and the generation of the snapshot that has it.
async fn connect(shared: &Shared, ways: &Ways, wanted: &Wanted) -> Result<(TcpStream, u64), Answer> {
    let book = shared.library.book();
    let address = book.find(wanted.member)?;
    let generation = book.generation();
    drop(book);
    let connect = async |socket: Socket, task| TcpSocket::from_std_stream(socket.into()).connect(task).await;
    match timeout(TASK, ways.connect(address, wanted.client, None, connect)).await {
        Ok(Ok(task)) => Ok((task, generation)),
        Ok(Err(error)) => Err(answer_to(&error)),
        Err(_) => Err(Answer::Silent),
    }
}

/// Counts a connection as soon as the plane has the snapshot of that generation; none: the member is gone again.
fn count(live: &Live, member: u64, generation: u64) -> impl Future<Output = Option<Counted>> {
    let known = live.count(member);
    async move {
        match known {
            None => live.count_at(member, generation).await,
            known => known,
        }
    }
}

async fn serve(
    shared: &Shared,
    mut node: TlsStream<Wire>,
    task: TcpStream,
    counted: impl Future<Output = Option<Counted>>,
) {
    let _present = shared.figures.carrying();
    // Looked at once it is counted: who waits for the last one sees it, or it does not begin.
    if shared.is_over.load(SeqCst) {
        return;
    }
    let task_cut = CutOff::of(&task);
    if let Err(error) = say(shared, &mut node, Answer::Connected).await {
        tracing::debug!("a node has gone before its task was there: {error}");
        node.get_ref().0.cut_off();
        shared.figures.cut();
        return;
    }
    let ended = async {
        match counted.await {
            Some(counted) => counted.ended().await,
            None => Cause::MemberGone,
        }
    };
    let moved = Passed::default();
    let why = tokio::select! {
        outcome = carry(&mut node, &task, &moved) => match outcome {
            Ok(()) => return task_cut.spare(),
            Err(broken) => broken.to_string(),
        },
        cause = ended => {
            node.get_ref().0.cut_off();
            cause.label().to_owned()
        }
    };
    tracing::debug!("a relayed connection was cut off: {why}");
    shared.figures.cut();
}

/// A last word.
async fn tell(shared: &Shared, mut node: TlsStream<Wire>, answer: Answer) {
    if say(shared, &mut node, answer).await.is_ok() {
        part(node).await;
    }
}

pub(super) async fn say(shared: &Shared, node: &mut TlsStream<Wire>, answer: Answer) -> io::Result<()> {
    node.write_all(&[answer.byte()]).await?;
    node.flush().await?;
    shared.figures.answered(answer);
    Ok(())
}

const fn answer_of(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Misplaced { .. } => Answer::Misplaced,
        Refusal::Malformed(_) => Answer::Malformed,
        _ => Answer::Stranger,
    }
}

fn answer_to(error: &io::Error) -> Answer {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Answer::Refused,
        ErrorKind::TimedOut => Answer::Silent,
        ErrorKind::AddrNotAvailable => Answer::Exhausted,
        _ if is_exhaustion(error) => Answer::Exhausted,
        _ => Answer::Unreachable,
    }
}
