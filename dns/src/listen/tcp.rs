//! TCP (RFC 7766): pipelined queries, answers in the order they are ready.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_server::net::xfer::Protocol;
use socket2::Type;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bind::socket;
use crate::config::TcpConfig;
use crate::service::{Outcome, Service, canonical};

const BACKLOG: i32 = 1024;
/// Bytes of answers that are collected before they are written.
const COLLECT: usize = 64 << 10;

pub(crate) fn bind(address: SocketAddr, freebind: bool) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, freebind)?;
    // Not the port: another server on it is a mistake to hear of.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Open connections, over all listeners.
pub(crate) struct Connections {
    limits: TcpConfig,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection; forgotten when dropped.
struct Open {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    pub(crate) fn new(limits: TcpConfig) -> Self {
        Self {
            limits,
            clients: Mutex::default(),
        }
    }

    fn open(self: &Arc<Self>, client: IpAddr) -> Option<Open> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.values().sum::<usize>() >= self.limits.connections {
            return None;
        }
        let count = clients.entry(client).or_default();
        if *count >= self.limits.connections_per_client {
            return None;
        }
        *count += 1;
        Some(Open {
            connections: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut clients = self
            .connections
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = clients.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Accepts for ever.
pub(crate) async fn serve(service: Arc<Service>, listener: TcpListener, connections: Arc<Connections>) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptors left, most likely: some will be closed.
                tracing::warn!(%error, "accepting a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        service.statistics.tcp_connections.increment();
        let Some(open) = connections.open(canonical(client.ip())) else {
            service.statistics.tcp_refused.increment();
            continue;
        };
        let service = Arc::clone(&service);
        tasks.spawn(async move {
            let limits = open.connections.limits;
            if let Err(error) = converse(&service, stream, client, &limits).await {
                tracing::debug!(%client, %error, "connection ended");
            }
            drop(open);
        });
    }
}

async fn converse(
    service: &Arc<Service>,
    mut stream: TcpStream,
    client: SocketAddr,
    limits: &TcpConfig,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(1024);
    let mut output = Vec::with_capacity(1024);
    let mut pending = FuturesUnordered::new();
    let mut closed = false;
    loop {
        let mut taken = 0;
        while pending.len() < limits.pipeline && output.len() < COLLECT {
            let Some(query) = frame(&input[taken..]) else {
                break;
            };
            taken += 2 + query.len();
            service.statistics.received_tcp.increment();
            let mut answer = Vec::with_capacity(512);
            match service.respond(query, client, Protocol::Tcp, &mut answer) {
                Outcome::Ready(_) => put(&answer, &mut output),
                Outcome::Later(waiting) => pending.push(async move {
                    waiting.finish(&mut answer).await;
                    answer
                }),
                // Whoever sends such things is no resolver; there is nothing to gain from reading on.
                Outcome::Nothing => return Ok(()),
            }
        }
        input.drain(..taken);
        if !output.is_empty() {
            // A client that does not read its answers is not waited for longer than one that does not ask.
            timeout(limits.idle, stream.write_all(&output)).await??;
            output.clear();
            continue;
        }
        if closed && pending.is_empty() {
            return Ok(());
        }
        let may_read = !closed && pending.len() < limits.pipeline;
        tokio::select! {
            read = stream.read_buf(&mut input), if may_read => closed = read? == 0,
            Some(answer) = pending.next() => put(&answer, &mut output),
            // Idle is a connection that has nothing to wait for (RFC 7766 §6.2.3), also in the middle of a query.
            () = sleep(limits.idle), if pending.is_empty() => return Ok(()),
        }
    }
}

/// The first whole message of what has been read, without its length (RFC 1035 §4.2.2).
fn frame(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Length and message in one write (RFC 7766 §8).
fn put(answer: &[u8], output: &mut Vec<u8>) {
    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
    output.extend_from_slice(&length.to_be_bytes());
    output.extend_from_slice(&answer[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        assert_eq!(frame(&[]), None);
        assert_eq!(frame(&[0, 2, 1]), None);
        assert_eq!(frame(&[0, 2, 1, 2, 3]), Some([1, 2].as_slice()));
        assert_eq!(frame(&[0, 0]), Some([].as_slice()));
    }

    #[test]
    fn connections_are_counted_in_all_and_of_each_client() {
        let limits = TcpConfig {
            connections: 3,
            connections_per_client: 2,
            ..TcpConfig::default()
        };
        let connections = Arc::new(Connections::new(limits));
        let [a, b] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let held = [connections.open(a), connections.open(a), connections.open(b)];
        assert!(held.iter().all(Option::is_some));
        assert!(connections.open(a).is_none() && connections.open(b).is_none());
        drop(held);
        assert!(connections.clients.lock().unwrap().is_empty());
    }
}
