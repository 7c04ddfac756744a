//! Clients as they come.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::announce;
use super::carry::Broken;
use super::dial::{Dial, Dialled, Ends, Task};
use super::gate::Gate;
use crate::plane::proxy::Cause;
use crate::plane::proxy::fronts::{Bind, Front};
use crate::plane::proxy::live::Counted;
use crate::plane::proxy::relay::{self, Relayed};
use crate::plane::proxy::socket::{CutOff, cut_off, in_runtime, is_exhaustion};
use crate::plane::proxy::workers::Worker;

/// Accepts for one frontend on one worker, until it is aborted, or another agent has the socket: then whoever waits at the gate is
/// still let in. Connections go on in both cases.
pub async fn serve(listener: Rc<AsyncFd<TcpListener>>, bind: Bind, worker: Rc<Worker>) {
    let mut gate = Gate::new(bind, &worker.table);
    let mut news = worker.retired.subscribe();
    let retired = news.wait_for(|retired| *retired);
    tokio::pin!(retired);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut retired => return,
            accepted = listener.async_io(Interest::READABLE, accept) => accepted,
        };
        match accepted {
            Ok((client, from)) => {
                // Until there is room for it, this may be aborted.
                let cut = CutOff::of(&client);
                let place = gate.place().await;
                let counters = &worker.table.counters;
                let front = worker.table.fronts.load().get(&bind).cloned();
                let Some(front) = front else {
                    counters.opened.fetch_add(1, Ordering::Relaxed);
                    counters.end(Cause::NoMember);
                    continue;
                };
                let arrival = Arrival {
                    bind,
                    from,
                    socket: gate.socket(front.family()).await,
                };
                cut.spare();
                // From here on it ends by itself, and is counted when it does.
                counters.opened.fetch_add(1, Ordering::Relaxed);
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move {
                    let cause = connection(&worker, front, client, arrival).await;
                    worker.table.counters.end(cause);
                    drop(place);
                });
            }
            Err(error) if is_exhaustion(&error) => gate.shut(&error).await,
            // Of one client that is gone already.
            Err(error) => tracing::debug!(%bind, %error, "a client was not accepted"),
        }
    }
}

/// Without blocking, as is all that is done with what is accepted.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, from) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let from = from.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((client.into(), from.try_into()?))
}

/// A client, as it comes.
struct Arrival {
    bind: Bind,
    from: SocketAddr,
    /// For its task.
    socket: Option<Socket>,
}

/// One client, from the first to the last byte. Gives why it ended.
async fn connection(worker: &Worker, front: Arc<Front>, client: TcpStream, arrival: Arrival) -> Cause {
    let from = arrival.from;
    // On the heap, and only as long as it takes: a connection that idles shall be small.
    let begun = Box::pin(begin(worker, &front, client, arrival)).await;
    let (client, Dialled { task, counted }) = match begun {
        Ok(begun) => begun,
        Err(cause) => return cause,
    };
    let (cause, [to_task, to_client]) = match task {
        Task::Here(task) => {
            let bytes = || {
                let moved = task.moved();
                [moved.to_task, moved.to_client]
            };
            let cause = tokio::select! {
                biased;
                outcome = task.carry(client) => told(outcome, &front, from),
                cause = end(&counted, &front, || bytes().iter().sum()) => cause,
            };
            (cause, bytes())
        }
        // Larger by its TLS: on the heap, that others need not be.
        Task::There(task) => match in_runtime(client) {
            Ok(client) => Box::pin(relayed(task, &front, &client, &counted)).await,
            Err(error) => (told(Err(Broken::Here(error)), &front, from), [0; 2]),
        },
    };
    let counters = &worker.table.counters;
    counters.to_tasks.fetch_add(to_task, Ordering::Relaxed);
    counters.to_clients.fetch_add(to_client, Ordering::Relaxed);
    cause
}

/// Whose connection it is, and the task that has it then. The client is given back, or reset.
async fn begin(
    worker: &Worker,
    front: &Arc<Front>,
    mut client: TcpStream,
    Arrival { bind, from, socket }: Arrival,
) -> Result<(TcpStream, Dialled), Cause> {
    let rules = &front.service.proxy;
    let to = client.local_addr().map_err(|_| {
        cut_off(&client);
        Cause::Abandoned
    })?;
    let mut ends = Ends { from, to };
    if rules
        .accept
        .iter()
        .any(|net| net.contains(&from.ip().to_canonical()))
    {
        (client, ends) = announce::hear(client, ends).await?;
    }
    let cut = CutOff::of(&client);
    let dial = Dial {
        worker,
        bind,
        client: &client,
        ends,
        socket,
        is_reset: false,
    };
    let mut dialled = dial.task(Arc::clone(front)).await?;
    if let Some(version) = rules.send {
        announce::tell(&mut dialled.task, version, ends).await?;
    }
    cut.spare();
    Ok((client, dialled))
}

/// Until a connection ends for a reason of its service: its task is gone or has drained for too long, or both sides have been
/// silent for too long. `moved` gives the bytes so far.
async fn end(counted: &Counted, front: &Front, moved: impl Fn() -> u64) -> Cause {
    let silence = async {
        let Some(idle) = front.service.proxy.idle else {
            return std::future::pending().await;
        };
        let mut before = moved();
        loop {
            tokio::time::sleep(idle).await;
            let now = moved();
            if now == before {
                return;
            }
            before = now;
        }
    };
    tokio::select! {
        biased;
        cause = counted.ended() => cause,
        () = silence => Cause::Idle,
    }
}

fn told(outcome: Result<(), Broken>, front: &Front, from: SocketAddr) -> Cause {
    match outcome {
        Ok(()) => Cause::Done,
        Err(Broken::Client(error)) => {
            tracing::debug!(%error, %from, "the client broke off");
            Cause::ClientReset
        }
        Err(Broken::Task(error)) => {
            tracing::debug!(%error, %from, service = %front.service.name, "the task broke off");
            Cause::TaskReset
        }
        Err(Broken::Here(error)) => {
            tracing::warn!(%error, service = %front.service.name, "a connection was given up");
            Cause::Exhausted
        }
    }
}

async fn relayed(
    task: Box<Relayed>,
    front: &Front,
    client: &tokio::net::TcpStream,
    counted: &Counted,
) -> (Cause, [u64; 2]) {
    let cut = CutOff::of(client);
    let moved = relay::Passed::default();
    let bytes = || [&moved.to_node, &moved.from_node].map(|moved| moved.load(Ordering::Relaxed));
    let cause = tokio::select! {
        outcome = task.carry(client, &moved) => match outcome {
            Ok(()) => Cause::Done,
            Err(relay::Breach::Near(_)) => Cause::ClientReset,
            Err(relay::Breach::Node(_)) => Cause::TaskReset,
        },
        cause = end(counted, front, || bytes().iter().sum()) => cause,
    };
    if cause == Cause::Done {
        cut.spare();
    }
    (cause, bytes())
}
