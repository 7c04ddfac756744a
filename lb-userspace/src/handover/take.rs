//! The new agent's side: everything is asked for before anything is opened.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::channel::{Channel, Heard};
use super::words::{MEMBERS, Word};
use super::{ANSWER, LETTING_GO, VERSION};
use crate::model::View;
use crate::plane::ProxyPlane;
use crate::plane::proxy::Sockets;

/// Before it is looked again who is there.
const AGAIN: Duration = Duration::from_millis(20);

/// What an agent has handed over.
#[derive(Debug, Default)]
pub struct Taken {
    pub sockets: Sockets,
    /// Agents that may still have connections.
    pub before: Vec<Predecessor>,
}

impl Taken {
    fn is_nothing(&self) -> bool {
        self.sockets.is_empty() && self.before.is_empty()
    }
}

/// An agent that decides nothing any more, and goes on carrying its connections.
#[derive(Debug)]
pub struct Predecessor(Channel);

/// Why nothing was taken over from an agent that is there.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it does not answer in time")]
    Silent,
    #[error("it does not end what it does in time")]
    Busy,
    #[error("it says what is not understood: {0}")]
    Strange(String),
    #[error("{0}")]
    Broken(#[from] io::Error),
    #[error("it has given everything away, and did not end as it should: {0}")]
    Unended(Box<Self>),
}

impl Failure {
    /// Whether that agent goes on as if it had not been asked.
    pub const fn changes_nothing(&self) -> bool {
        !matches!(self, Self::Busy | Self::Unended(_))
    }

    fn late(self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            other => Self::Unended(Box::new(other)),
        }
    }
}

/// Takes over from the agent that waits at `path`. None: there is none. One that ends meanwhile leaves what it has sent.
pub async fn take(path: &Path) -> Result<Option<Taken>, Failure> {
    let until = Instant::now() + LETTING_GO;
    loop {
        let channel = match Channel::connect(path) {
            Ok(channel) => channel,
            // Never there, or left by one that was killed.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let taken = take_by(channel).await?;
        if !taken.is_nothing() {
            tracing::info!(
                sockets = taken.sockets.len(),
                "took over from the agent that ran here"
            );
            return Ok(Some(taken));
        }
        // It has ended, or given everything to another one just now: that one is there then.
        if Instant::now() > until {
            return Err(Failure::Silent);
        }
        sleep(AGAIN).await;
    }
}

async fn take_by(channel: Channel) -> Result<Taken, Failure> {
    let mut taken = Taken::default();
    if ask(&channel, &mut taken).await? && let_go(&channel).await.map_err(Failure::late)? {
        taken.before.push(Predecessor(channel));
    }
    Ok(taken)
}

/// Until everything is here; whether the other side still is.
async fn ask(channel: &Channel, taken: &mut Taken) -> Result<bool, Failure> {
    if channel.tell(&Word::TakeOver { version: VERSION }).await.is_err() {
        return Ok(false);
    }
    let mut count = 0;
    loop {
        let Some(Heard { word, descriptors }) = hear(channel).await.map_err(|_| Failure::Silent)?? else {
            return Ok(false);
        };
        count += descriptors.len();
        match word {
            Word::Sockets => {
                for socket in descriptors {
                    taken.sockets.add(socket)?;
                }
            }
            Word::Before => {
                for socket in descriptors {
                    taken.before.push(Predecessor(Channel::new(socket)?));
                }
            }
            Word::All { descriptors } if descriptors == count => return Ok(true),
            Word::Refused { why } => return Err(Failure::Refused(why)),
            word => return Err(Failure::Strange(format!("{word:?}"))),
        }
    }
}

/// From here on the other side serves no more; whether it still is there when that is done.
async fn let_go(channel: &Channel) -> Result<bool, Failure> {
    if channel.tell(&Word::Have).await.is_err() {
        return Ok(false);
    }
    let over = timeout(LETTING_GO, listen(channel)).await;
    match over.map_err(|_| Failure::Busy)?? {
        Some(Heard { word: Word::Over, .. }) => Ok(true),
        Some(heard) => Err(Failure::Strange(format!("{:?}", heard.word))),
        None => Ok(false),
    }
}

async fn hear(channel: &Channel) -> Result<Result<Option<Heard>, Failure>, tokio::time::error::Elapsed> {
    timeout(ANSWER, listen(channel)).await
}

/// One that was killed may leave a reset.
async fn listen(channel: &Channel) -> Result<Option<Heard>, Failure> {
    match channel.hear().await {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        heard => Ok(heard?),
    }
}

impl Predecessor {
    /// For an agent after this one.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Tells it that this agent serves, counts the connections that it has as long as it has any, and tells it which are to
    /// end.
    pub async fn attend(&self, plane: ProxyPlane, view: View) {
        if let Err(error) = self.listen(&plane, &view).await {
            tracing::warn!(%error, "connections of an agent before this one are not counted any more");
        }
    }

    async fn listen(&self, plane: &ProxyPlane, view: &View) -> io::Result<()> {
        let before = plane.before();
        self.0.tell(&Word::Serving).await?;
        let mut members = Vec::new();
        while let Some(Heard { word, .. }) = self.0.hear().await? {
            match word {
                Word::Flows {
                    first,
                    last,
                    members: more,
                } => {
                    if first {
                        members.clear();
                    }
                    members.extend(more);
                    if last {
                        let here = members.iter().filter(|(.., here)| *here);
                        before.note(here.map(|(tag, count, _)| (*tag, *count)).collect());
                        self.end(plane, view, &members).await?;
                    }
                }
                Word::Cut { connections } => plane.note_cut(connections),
                word => return Err(io::Error::new(ErrorKind::InvalidData, format!("{word:?}"))),
            }
        }
        Ok(())
    }

    /// Which of these members' connections are to end, as this agent has it.
    async fn end(&self, plane: &ProxyPlane, view: &View, members: &[(u64, u64, bool)]) -> io::Result<()> {
        let snapshot = view.current();
        if snapshot.generation == 0 || members.is_empty() {
            return Ok(());
        }
        let pools = snapshot.pools.iter();
        let there: HashSet<u64> = pools
            .flat_map(|pool| pool.members.iter().map(|member| member.candidate.tag))
            .collect();
        let tags = members.iter().map(|(tag, ..)| *tag);
        let (there, gone): (Vec<u64>, Vec<u64>) = tags.partition(|tag| there.contains(tag));
        let drained: Vec<u64> = there.into_iter().filter(|tag| plane.has_drained(*tag)).collect();
        for gone in gone.chunks(MEMBERS) {
            let (gone, drained) = (gone.into(), Vec::new());
            self.0.tell(&Word::End { gone, drained }).await?;
        }
        for drained in drained.chunks(MEMBERS) {
            let (gone, drained) = (Vec::new(), drained.into());
            self.0.tell(&Word::End { gone, drained }).await?;
        }
        Ok(())
    }
}
