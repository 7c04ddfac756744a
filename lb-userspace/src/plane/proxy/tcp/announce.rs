//! The PROXY protocol: who a client is, heard from a proxy in front of this one, and told to tasks.

use std::io;
use std::net;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::{Ends, Task};
use crate::model::ProxyVersion;
use crate::plane::proxy::Cause;
use crate::plane::proxy::header::{self, Header, Parsed, Transport};
use crate::plane::proxy::socket::{CutOff, in_runtime};

/// For the whole header to come: whoever sends one has it ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes looked at in one go: longer than headers are as a rule.
const SIGHT: usize = 256;

/// Takes the header off a connection of a trusted proxy, and nothing behind it.
pub async fn hear(client: net::TcpStream, ends: Ends) -> Result<(net::TcpStream, Ends), Cause> {
    let client = in_runtime(client).map_err(exhausted)?;
    let cut = CutOff::of(&client);
    let heard = timeout(PATIENCE, read(&client)).await;
    let read = heard.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let told = read.map_err(|error| {
        tracing::warn!(from = %ends.from, %error, "a trusted proxy did not say whose connection it is");
        Cause::Malformed
    })?;
    cut.spare();
    // A proxy that speaks for itself, as health checks do, is the client.
    Ok((client.into_std().map_err(exhausted)?, told.unwrap_or(ends)))
}

fn exhausted(error: io::Error) -> Cause {
    tracing::warn!(%error, "a connection of a trusted proxy was given up");
    Cause::Exhausted
}

/// None: the header names nobody.
async fn read(client: &TcpStream) -> io::Result<Option<Ends>> {
    let mut bytes = Vec::with_capacity(SIGHT);
    loop {
        let before = bytes.len();
        bytes.resize(before + SIGHT, 0);
        // A look alone: what is behind the header is for the task.
        let seen = client.peek(&mut bytes[before..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(before + seen);
        let (told, length) = match header::parse(&bytes).map_err(invalid)? {
            Parsed::Whole { header, length } => (Some(header.source.zip(header.destination)), length),
            Parsed::More => (None, bytes.len()),
        };
        // What was seen is there, and nobody else reads here.
        client.try_read(&mut [0; SIGHT][..length - before])?;
        if let Some(named) = told {
            return Ok(named.map(|(from, to)| Ends { from, to }));
        }
    }
}

fn invalid(fault: header::Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault.to_string())
}

/// Before anything of the client's.
pub async fn tell(task: &mut Task, version: ProxyVersion, Ends { from, to }: Ends) -> Result<(), Cause> {
    let mut bytes = Vec::with_capacity(128);
    match version {
        ProxyVersion::V1 => header::write_v1(from, to, &mut bytes),
        ProxyVersion::V2 => header::write_v2(&Header::proxied(Transport::Stream, from, to), &mut bytes),
    }
    let told = match task {
        Task::Here(reached) => reached.say(&bytes),
        Task::There(relayed) => {
            async {
                relayed.write_all(&bytes).await?;
                relayed.flush().await
            }
            .await
        }
    };
    told.map_err(|error| {
        tracing::debug!(%error, "a task broke off before its client was told of");
        Cause::TaskReset
    })
}
