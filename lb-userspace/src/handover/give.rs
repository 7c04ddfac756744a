//! The side of the agent that is replaced, until its successor has everything.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::channel::{Channel, Dormant, Heard, Listener};
use super::words::Word;
use super::{ANSWER, VERSION};
use crate::rights::TOGETHER;

/// Before another agent is listened to again.
const AGAIN: Duration = Duration::from_millis(100);

/// Handles of what is handed over.
#[derive(Debug, Default)]
pub struct Lent {
    pub sockets: Vec<OwnedFd>,
    /// Channels to agents that were before this one.
    pub before: Vec<OwnedFd>,
}

/// A successor that has everything, and waits.
#[derive(Debug)]
pub struct Given {
    pub(super) successor: OwnedFd,
    pub(super) process: u32,
    /// For a successor's successor, until the first one serves.
    pub(super) listener: Dormant,
    pub(super) lent: Lent,
}

impl Given {
    /// The successor's process.
    pub const fn successor(&self) -> u32 {
        self.process
    }
}

/// Waits for a successor and gives it what is lent then. One that does not say that it has it changes nothing.
pub async fn give<L: Future<Output = io::Result<Lent>>>(listener: Listener, lend: impl Fn() -> L) -> Given {
    loop {
        let heard = match listener.accept().await {
            Ok(successor) => successor.process().map(|process| (successor, process)),
            Err(error) => Err(error),
        };
        let (successor, process) = match heard {
            Ok(heard) => heard,
            // Out of descriptors, mostly: it asks again, and so does this one.
            Err(error) => {
                tracing::warn!(%error, "another agent cannot be heard");
                sleep(AGAIN).await;
                continue;
            }
        };
        let lent = match lend().await {
            Ok(lent) => lent,
            Err(error) => {
                tracing::warn!(%error, "not all can be handed over: this agent goes on");
                continue;
            }
        };
        match offer(&successor, &lent).await {
            Ok(()) => {
                tracing::info!(process, "another agent takes over");
                return Given {
                    process,
                    successor: successor.into_socket(),
                    listener: listener.sleep(),
                    lent,
                };
            }
            Err(error) => tracing::warn!(%error, "another agent has not taken over: this one goes on"),
        }
    }
}

/// Until the successor has it all.
pub(super) async fn offer(successor: &Channel, lent: &Lent) -> io::Result<()> {
    match hear(successor).await? {
        Word::TakeOver { version: VERSION } => {}
        word => {
            let why = match word {
                Word::TakeOver { version } => {
                    format!(
                        "it hands over as version {VERSION} of that has it, the new one takes as {version}"
                    )
                }
                word => format!("it was told {word:?} first"),
            };
            successor.tell(&Word::Refused { why: why.clone() }).await?;
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
    }
    for (word, descriptors) in [(Word::Sockets, &lent.sockets), (Word::Before, &lent.before)] {
        for together in descriptors.chunks(TOGETHER) {
            let raw: Vec<_> = together.iter().map(AsRawFd::as_raw_fd).collect();
            successor.tell_with(&word, &raw).await?;
        }
    }
    let descriptors = lent.sockets.len() + lent.before.len();
    successor.tell(&Word::All { descriptors }).await?;
    match hear(successor).await? {
        Word::Have => Ok(()),
        word => Err(io::Error::new(ErrorKind::InvalidData, format!("{word:?}"))),
    }
}

async fn hear(successor: &Channel) -> io::Result<Word> {
    match timeout(ANSWER, successor.hear()).await {
        Ok(Ok(Some(Heard { word, .. }))) => Ok(word),
        Ok(Ok(None)) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}
