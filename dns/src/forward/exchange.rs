//! One question to one upstream, by UDP and, where that is not enough, by TCP.
//!
//! Each question has a socket of its own, whose port the kernel chooses at random, and a random id: a forger has to
//! guess both (RFC 5452). The socket is connected, so that the kernel drops what comes from elsewhere, and says at once
//! that nobody listens there. hickory's resolver has all this too, but decodes what it gets, follows aliases, retries and
//! caches by rules of its own; an answer here is passed on as it came.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::packed::Packed;
use super::question::{Question, UDP_SIZE};
use super::upstream::Upstream;
use crate::statistics::Statistics;
use crate::wire::HEADER;

const QR: u8 = 0x80;
const FORMAT_ERROR: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no answer in time")]
    Timeout,
    #[error("an answer that cannot be used")]
    Nonsense,
    #[error("it does not understand the question")]
    Format,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How to ask.
pub(super) struct Manner<'a> {
    pub(super) attempt: Duration,
    pub(super) mix_case: bool,
    pub(super) statistics: &'a Statistics,
}

/// Asks once; notes in the upstream how it went.
pub(super) async fn ask(
    upstream: &Upstream,
    question: &Question,
    manner: &Manner<'_>,
) -> Result<Packed, Fault> {
    let mut running = Running {
        upstream,
        start: Instant::now(),
        finished: false,
    };
    let edns = upstream.speaks_edns();
    let mut result = limited(manner, once(upstream.address, question, manner, edns)).await;
    let misunderstood = match &result {
        Ok(packed) => packed.is_format_error(),
        Err(fault) => matches!(fault, Fault::Format),
    };
    if edns && misunderstood {
        result = limited(manner, once(upstream.address, question, manner, false)).await;
        if result.as_ref().is_ok_and(Packed::is_conclusive) {
            upstream.speaks_no_edns();
        }
    }
    running.finished = true;
    match &result {
        Ok(_) => upstream.answered(running.start.elapsed()),
        Err(fault) => {
            upstream.failed();
            match fault {
                Fault::Timeout => manner.statistics.upstream_timeouts.increment(),
                Fault::Nonsense => manner.statistics.upstream_nonsense.increment(),
                Fault::Format | Fault::Io(_) => {}
            }
            tracing::debug!(upstream = %upstream.address, %fault, "not answered");
        }
    }
    result
}

/// Notices that an attempt was given up because another was faster.
struct Running<'a> {
    upstream: &'a Upstream,
    start: Instant,
    finished: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.upstream.outrun(self.start.elapsed());
        }
    }
}

async fn limited(
    manner: &Manner<'_>,
    exchange: impl Future<Output = Result<Packed, Fault>>,
) -> Result<Packed, Fault> {
    timeout(manner.attempt, exchange)
        .await
        .unwrap_or(Err(Fault::Timeout))
}

async fn once(
    upstream: SocketAddr,
    question: &Question,
    manner: &Manner<'_>,
    edns: bool,
) -> Result<Packed, Fault> {
    let message = question.message(rand::random(), manner.mix_case, edns);
    manner.statistics.upstream_queries.increment();
    let packed = by_udp(upstream, &message, manner, edns).await?;
    if !packed.is_truncated() {
        return Ok(packed);
    }
    manner.statistics.upstream_tcp.increment();
    by_tcp(upstream, &message, manner).await
}

async fn by_udp(
    upstream: SocketAddr,
    message: &[u8],
    manner: &Manner<'_>,
    edns: bool,
) -> Result<Packed, Fault> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(message).await?;
    // One byte more than we asked for shows what is longer.
    let mut buffer = [0; UDP_SIZE + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if !belongs(answer, message, manner.mix_case) {
            // A forger's, perhaps: the true one may still come.
            manner.statistics.upstream_nonsense.increment();
            continue;
        }
        if length == HEADER {
            let misunderstood = edns && answer[3] & 0x0f == FORMAT_ERROR;
            return Err(if misunderstood {
                Fault::Format
            } else {
                Fault::Nonsense
            });
        }
        if length > UDP_SIZE {
            return Err(Fault::Nonsense);
        }
        return Packed::parse(answer.to_vec(), upstream).ok_or(Fault::Nonsense);
    }
}

async fn by_tcp(upstream: SocketAddr, message: &[u8], manner: &Manner<'_>) -> Result<Packed, Fault> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(message.len()).unwrap_or_default();
    // In one segment (RFC 7766 §8).
    stream
        .write_all(&[&length.to_be_bytes(), message].concat())
        .await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    if !belongs(&answer, message, manner.mix_case) {
        return Err(Fault::Nonsense);
    }
    Packed::parse(answer, upstream)
        .filter(|packed| !packed.is_truncated())
        .ok_or(Fault::Nonsense)
}

/// Whether it is an answer to this message: id and question (RFC 5452 §9.1). A header alone may be what a server says
/// that understands nothing.
fn belongs(answer: &[u8], message: &[u8], exact: bool) -> bool {
    let (Some(header), Some(asked)) = (answer.first_chunk::<HEADER>(), message.get(HEADER..)) else {
        return false;
    };
    if header[..2] != message[..2] || header[2] & QR == 0 {
        return false;
    }
    if answer.len() == HEADER {
        return header[3] & 0x0f != 0;
    }
    // Up to the type and class behind the name; what follows it in the message is OPT.
    let mut end = 0;
    while let Some(length @ 1..) = asked.get(end) {
        end += usize::from(*length) + 1;
    }
    let (Some(asked), Some(answered)) = (asked.get(..end + 5), answer.get(HEADER..HEADER + end + 5)) else {
        return false;
    };
    if exact {
        asked == answered
    } else {
        asked.eq_ignore_ascii_case(answered)
    }
}
