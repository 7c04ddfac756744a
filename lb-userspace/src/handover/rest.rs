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

    async fn tell(&self, word: &Word) {
        if let Self::Starting(channel) | Self::Serving(channel) = self {
            // One that has died is noticed by hearing it; one that does not listen keeps nobody waiting.
            let _ = timeout(TELLING, channel.tell(word)).await;
        }
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
        let mut lent = given.lent;
        let mut listener = Some(given.listener.wake()?);
        let mut successor = Successor::Starting(Channel::new(given.successor)?);
        successor.tell(&Word::Over).await;
        let left = plane.connections();
        tracing::info!(left, ?patience, "replaced; established connections go on");
        let (began, mut ticks) = (Instant::now(), interval(COUNT));
        let over = sleep(patience);
        tokio::pin!(over, signal);
        loop {
            tokio::select! {
                heard = successor.hear() => {
                    match heard {
                        Ok(Some(Word::Serving)) => successor = successor.serves(),
                        Ok(Some(Word::End { gone, drained })) => plane.end(&gone, &drained),
                        Ok(Some(word)) => tracing::warn!(?word, "the successor says what it should not"),
                        Ok(None) | Err(_) => successor = successor.lost(),
                    }
                    if let Successor::Serving(_) | Successor::Gone = successor {
                        // They are the successor's alone, or nobody's.
                        (lent, listener) = (Lent::default(), None);
                    }
                }
                channel = another(listener.as_ref()), if matches!(successor, Successor::Missing(_)) => {
                    match offer(&channel, &lent).await {
                        Ok(()) => {
                            successor = Successor::Starting(channel);
                            successor.tell(&Word::Over).await;
                        }
                        Err(error) => tracing::warn!(%error, "another agent has not taken over"),
                    }
                }
                _ = ticks.tick() => {
                    plane.look();
                    if matches!(successor, Successor::Serving(_)) {
                        count(&plane, &successor).await;
                    }
                    let waited_for = matches!(successor, Successor::Starting(_) | Successor::Missing(_));
                    if !waited_for && began.elapsed() >= ASKED && plane.connections() == 0 {
                        tracing::info!("all connections have ended");
                        return Ok(());
                    }
                }
                () = &mut over => break,
                _ = &mut signal => break,
            }
        }
        let connections = plane.connections();
        tracing::warn!(
            connections,
            "the time of established connections is over: they are reset"
        );
        successor.tell(&Word::Cut { connections }).await;
        Ok(())
    }
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

/// Tells how many connections each member has.
async fn count(plane: &ProxyPlane, successor: &Successor) {
    let members = plane.counts();
    let words = members.chunks(MEMBERS).count().max(1);
    let mut parts = members.chunks(MEMBERS);
    for number in 0..words {
        let word = Word::Flows {
            first: number == 0,
            last: number + 1 == words,
            members: parts.next().unwrap_or_default().into(),
        };
        successor.tell(&word).await;
    }
}
