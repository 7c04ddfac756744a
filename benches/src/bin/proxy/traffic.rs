//! Both ends of every load, as processes of their own. They do as little as ends can: what they cost is in every figure.

pub mod awake;
pub mod backend;
pub mod bulk;
pub mod connections;
pub mod datagrams;
pub mod idle;
mod poll;
pub mod requests;

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// Bytes of a request, and of its answer.
pub const MESSAGE: usize = 128;
/// Longer than anything takes on a busy machine: nobody waits for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the first byte of a connection asks the backend for.
pub mod ask {
    /// All bytes back, for as long as they come.
    pub const ECHO: u8 = b'e';
    /// One message back, and the end.
    pub const ONCE: u8 = b'o';
    /// Nothing, until the client has said all; then how many bytes that was, as eight bytes, highest first.
    pub const SINK: u8 = b's';
    /// Bytes, for as long as somebody takes them.
    pub const SOURCE: u8 = b'g';
}

/// What the benchmark starts of itself.
#[derive(Subcommand, Clone, Debug)]
#[command(hide = true)]
pub enum Role {
    /// Answers everything
    #[command(hide = true)]
    Backend(backend::Backend),
    /// Large streams
    #[command(hide = true)]
    Bulk(bulk::Bulk),
    /// Short connections, one request each
    #[command(hide = true)]
    Connections(connections::Connections),
    /// Requests on connections that stay
    #[command(hide = true)]
    Requests(requests::Requests),
    /// Small datagrams
    #[command(hide = true)]
    Datagrams(datagrams::Datagrams),
    /// Connections that say nothing more
    #[command(hide = true)]
    Idle(idle::Idle),
    /// Keeps a processor from sleeping
    #[command(hide = true)]
    Awake(awake::Awake),
}

impl Role {
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Backend(backend) => backend.run(),
            Self::Bulk(bulk) => bulk.run()?.print(),
            Self::Connections(connections) => connections.run()?.print(),
            Self::Requests(requests) => requests.run()?.print(),
            Self::Datagrams(datagrams) => datagrams.run()?.print(),
            Self::Idle(idle) => idle.run(),
            Self::Awake(awake) => {
                awake.run();
                Ok(())
            }
        }
    }
}

/// What a client did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Connections, requests or datagrams that were answered; for large streams bytes that arrived.
    pub done: f64,
    /// In so many seconds.
    pub seconds: f64,
    /// Those that were not answered.
    pub failed: u64,
    /// Where a rate was asked for: how long half of them, and 99 of 100, took at most, in microseconds.
    pub median: f64,
    pub p99: f64,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.done / self.seconds
    }

    fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// A connection on which the first request has been answered: whatever is made only for the first bytes is there.
fn connect(target: SocketAddrV4) -> Result<TcpStream> {
    let mut stream = open(target)?;
    let mut message = [ask::ECHO; MESSAGE];
    stream.write_all(&message)?;
    stream
        .read_exact(&mut message)
        .with_context(|| format!("{target} does not answer"))?;
    Ok(stream)
}

fn open(target: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether a target answers, by TCP and, where it shall, by UDP.
pub fn probe(target: SocketAddrV4, datagrams: bool) -> Result<()> {
    drop(connect(target)?);
    if datagrams {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.connect(target)?;
        socket.send(b"hello")?;
        let mut answer = [0; 16];
        let length = socket
            .recv(&mut answer)
            .with_context(|| format!("{target} does not answer by UDP"))?;
        ensure!(
            &answer[..length] == b"hello",
            "{target} answers something else by UDP"
        );
    }
    Ok(())
}
