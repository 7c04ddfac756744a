//! The least of HTTP/1.1 that shows what became of a connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;
use socket2::{SockRef, Type};

use crate::namespace::Namespace;

/// How long a client waits for anything before it complains.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What the lab's task says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    pub service: String,
    pub task: String,
    pub node: String,
    /// The client's address and port as the task saw them.
    pub client: IpAddr,
    pub port: u16,
    /// The task will close the connection after this answer.
    #[serde(skip)]
    pub last: bool,
}

/// One connection, kept alive.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects from the namespace that the calling thread is in.
    pub fn open(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        Self::open_with(target, source, PATIENCE)
    }

    pub fn open_with(target: SocketAddr, source: Option<IpAddr>, patience: Duration) -> io::Result<Self> {
        Self::connect(super::socket(Type::STREAM, target, source)?, target, patience)
    }

    /// Connects from an address and port of its own choice, which other connections may have as well.
    pub fn open_from(target: SocketAddr, source: SocketAddr) -> io::Result<Self> {
        let socket = super::socket(Type::STREAM, target, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
        Self::connect(socket, target, PATIENCE)
    }

    fn connect(socket: socket2::Socket, target: SocketAddr, patience: Duration) -> io::Result<Self> {
        socket.connect_timeout(&target.into(), patience)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    pub fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Asks the task who it is.
    pub fn ask(&mut self) -> io::Result<Answer> {
        let (last, body) = self.get("/")?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Answer { last, ..answer })
    }

    /// Gets a path; whether the connection ends now, and the body.
    pub fn get(&mut self, path: &str) -> io::Result<(bool, Vec<u8>)> {
        self.send(path)?;
        self.receive()
    }

    pub fn send(&mut self, path: &str) -> io::Result<()> {
        self.stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes())
    }

    pub fn receive(&mut self) -> io::Result<(bool, Vec<u8>)> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let header = |name: &str| {
            text.lines()
                .find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let length: usize = header("content-length:")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text.clone()))?;
        if !text.starts_with("http/1.1 200") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, text.clone()));
        }
        while self.buffer.len() < head + length {
            self.more()?;
        }
        let body = self.buffer[head..head + length].to_vec();
        self.buffer.drain(..head + length);
        Ok((header("connection:").as_deref() == Some("close"), body))
    }

    /// Ends with a reset: leaves no TIME_WAIT behind.
    pub fn abort(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn more(&mut self) -> io::Result<()> {
        let mut part = [0; 65_536];
        match self.stream.read(&mut part)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&part[..count]);
                Ok(())
            }
        }
    }
}

/// One request on a connection of its own, from a namespace.
pub fn ask(from: &Namespace, target: SocketAddr) -> anyhow::Result<Answer> {
    Ok(from.run(|| Connection::open(target, None)?.ask())??)
}
