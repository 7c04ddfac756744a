//! What is left of an agent that was replaced: its connections, until they are done or their time is over.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::COUNT;
use super::channel::{Channel, Listener};
use super::give::{Given, Lent, offer};
use super::words::{MEMBERS, Word};
use crate::plane::ProxyPlane;

/// Other nodes may still ask by handshakes that they have finished with this agent: that long, and a little.
const ASKED: Duration = Duration::from_secs(16);
/// For a successor's successor, where the first one has died before it served.
const ORPHANED: Duration = Duration::from_secs(60);

/// For the successor to take a word.
const TELLING: Duration = Duration::from_secs(1);

/// Its connections, and the successor.
pub struct Rest {
    plane: ProxyPlane,
    given: Given,
    patience: Duration,
}

/// Who has the sockets.
enum Successor {
    /// It has them, and does not serve yet.
    Starting(Channel),
    Serving(Channel),
    /// It has died before it served: clients wait in the sockets for another one, until then.
    Missing(Instant),
    /// It has died since.
    Gone,
}

impl Successor {
    async fn hear(&self) -> io::Result<Option<Word>> {
        match self {
            Self::Starting(channel) | Self::Serving(channel) => {
                Ok(channel.hear().await?.map(|heard| heard.word))
            }
            Self::Missing(until) => {
                sleep_until(*until).await;
                Ok(None)
            }
            Self::Gone => pending().await,
        }
    }

    /// False: it does not listen.
    async fn tell(&self, word: &Word) -> bool {
        if let Self::Starting(channel) | Self::Serving(channel) = self {
            return tell(channel, word).await;
        }
        false
    }

    /// Sockets are kept for it.
    const fn is_awaited(&self) -> bool {
        matches!(self, Self::Starting(_) | Self::Missing(_))
    }

    fn serves(self) -> Self {
        match self {
            Self::Starting(channel) => Self::Serving(channel),
            other => other,
        }
    }

    fn lost(self) -> Self {
        match self {
            Self::Starting(_) => {
                tracing::warn!("the successor has ended before it served; clients wait for another one");
                Self::Missing(Instant::now() + ORPHANED)
            }
            Self::Missing(_) => {
                tracing::warn!("nobody has come: clients that wait are reset");
                Self::Gone
            }
            Self::Serving(_) | Self::Gone => Self::Gone,
        }
    }
}

impl Rest {
    /// `patience`: for all of its connections.
    pub fn new(plane: ProxyPlane, given: Given, patience: Duration) -> Self {
        Self {
            plane,
            given,
            patience,
        }
    }

    /// Tells the successor that the way is free, and carries until there is nothing left or `signal` is ready. To be called
    /// once everything else has ended.
    pub async fn finish<S>(self, signal: impl Future<Output = S>) -> io::Result<()> {
        let Self {
            plane,
            given,
            patience,
        } = self;
        let mut left = Left {
            lent: given.lent,
            listener: Some(given.listener.wake()?),
            successor: Successor::Starting(Channel::new(given.successor)?),
            plane,
        };
        left.successor.tell(&Word::Over).await;
        let connections = left.plane.connections();
        tracing::info!(connections, ?patience, "replaced; established connections go on");
        let over = sleep(patience);
        // Whatever waits for the successor ends with it.
        let ended = tokio::select! {
            () = left.carry() => true,
            () = over => false,
            _ = signal => false,
        };
        if ended {
            tracing::info!("all connections have ended");
            return Ok(());
        }
        let (all, connections) = (left.plane.connections(), left.plane.clients());
        tracing::warn!(all, "the time of established connections is over: they are reset");
        left.successor.tell(&Word::Cut { connections }).await;
        Ok(())
    }
}

/// What it carries with.
struct Left {
    plane: ProxyPlane,
    /// Until the successor serves.
    lent: Lent,
    listener: Option<Listener>,
    successor: Successor,
}

impl Left {
    /// Until nothing is left. Can be dropped at any time.
    async fn carry(&mut self) {
        let (began, mut ticks) = (Instant::now(), interval(COUNT));
        loop {
            tokio::select! {
                heard = self.successor.hear() => self.hear(heard),
                channel = another(self.listener.as_ref()), if matches!(self.successor, Successor::Missing(_)) => {
                    match offer(&channel, &self.lent).await {
                        Ok(()) => {
                            // First: it is not told of anything else before.
                            tell(&channel, &Word::Over).await;
                            self.successor = Successor::Starting(channel);
                        }
                        Err(error) => tracing::warn!(%error, "another agent has not taken over"),
                    }
                }
                _ = ticks.tick() => {
                    self.plane.look();
                    match self.successor {
                        Successor::Serving(_) => self.count().await,
                        Successor::Missing(_) => self.come_back(),
                        _ => {}
                    }
                    if !self.successor.is_awaited() && began.elapsed() >= ASKED && self.plane.connections() == 0 {
                        return;
                    }
                }
            }
        }
    }

    fn hear(&mut self, heard: io::Result<Option<Word>>) {
        match heard {
            Ok(Some(Word::Serving)) => self.change(Successor::serves),
            Ok(Some(Word::End { gone, drained })) => self.plane.end(&gone, &drained),
            Ok(Some(word)) => tracing::warn!(?word, "the successor says what it should not"),
            Ok(None) | Err(_) => self.change(Successor::lost),
        }
        if matches!(self.successor, Successor::Missing(_)) {
            self.come_back();
        } else if !self.successor.is_awaited() {
            // They are the successor's alone, or nobody's.
            (self.lent, self.listener) = (Lent::default(), None);
        }
    }

    /// The successor may have died at the place where the next one asks, and its socket may be closed only now.
    fn come_back(&mut self) {
        if let Some(listener) = &mut self.listener
            && let Err(error) = listener.come_back()
        {
            tracing::warn!(%error, "no other agent can take over from this one");
            self.listener = None;
        }
    }

    fn change(&mut self, change: impl FnOnce(Successor) -> Successor) {
        self.successor = change(std::mem::replace(&mut self.successor, Successor::Gone));
    }

    /// Tells how many connections each member has, as far as the successor listens.
    async fn count(&self) {
        let members = self.plane.counts();
        let words = members.chunks(MEMBERS).count().max(1);
        let mut parts = members.chunks(MEMBERS);
        for number in 0..words {
            let word = Word::Flows {
                first: number == 0,
                last: number + 1 == words,
                members: parts.next().unwrap_or_default().into(),
            };
            if !self.successor.tell(&word).await {
                return;
            }
        }
    }
}

/// One that has died is noticed by hearing it; one that does not listen keeps nobody waiting.
async fn tell(channel: &Channel, word: &Word) -> bool {
    matches!(timeout(TELLING, channel.tell(word)).await, Ok(Ok(())))
}

/// The next one who asks.
async fn another(listener: Option<&Listener>) -> Channel {
    if let Some(listener) = listener
        && let Ok(channel) = listener.accept().await
    {
        return channel;
    }
    pending().await
}
