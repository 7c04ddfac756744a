//! Follows the lists of a manager: after events, and by looking, because tasks have no events.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::fetch::Fetch;
use super::lists::Lists;
use super::picture::{is_restless, picture};
use super::trouble::Trouble;
use crate::model::Desired;
use crate::source::backoff::Backoff;
use crate::source::{Note, sift};

/// Between two lists, whatever happens.
pub const GAP: Duration = Duration::from_millis(200);
/// After an event, for those that come with it.
const REST: Duration = Duration::from_millis(50);
/// While something is under way.
pub const RESTLESS: Duration = Duration::from_secs(1);
/// The same where nothing has come of it for [`LONG`]: a task that finds no place waits for ever.
pub const WAITING: Duration = Duration::from_secs(5);
pub const LONG: Duration = Duration::from_secs(120);
/// While nothing is.
pub const CALM: Duration = Duration::from_secs(15);
/// An engine that takes as long for an answer is in trouble, even if one comes in the end.
pub const SLOW: Duration = Duration::from_secs(5);
/// After a failure, doubled each time.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The latest that a manager said.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    /// The same one as long as nothing has changed; `None` until there is one.
    pub desired: Option<Arc<Desired>>,
    /// When the lists were got last.
    pub at: Option<SystemTime>,
    pub notes: Arc<[Note]>,
    pub leader: Option<Arc<str>>,
    /// Why what there is may be old.
    pub trouble: Option<Trouble>,
}

/// Goes on until it is aborted. `moved` changes with every event; `start` is what an earlier life saw, to share with.
pub async fn poll(
    mut fetch: impl Fetch,
    mut moved: watch::Receiver<u64>,
    out: watch::Sender<Polled>,
    start: Arc<Desired>,
) {
    let mut follower = Follower {
        out,
        last: start,
        lists: Lists::default(),
        changed: Instant::now(),
        retry: RETRY,
    };
    loop {
        let begun = Instant::now();
        moved.mark_unchanged();
        let pause = match follower.wait(fetch.lists(&follower.lists)).await {
            Ok(lists) => follower.take(lists),
            Err(trouble) => follower.fail(trouble),
        };
        tokio::select! {
            () = event(&mut moved) => sleep(REST).await,
            () = sleep(pause) => {}
        }
        sleep_until(begun + GAP).await;
    }
}

/// Where nobody tells of events there are none.
async fn event(moved: &mut watch::Receiver<u64>) {
    if moved.changed().await.is_err() {
        std::future::pending().await
    }
}

struct Follower {
    out: watch::Sender<Polled>,
    last: Arc<Desired>,
    lists: Lists,
    /// When the lists were different last.
    changed: Instant,
    retry: Backoff,
}

impl Follower {
    /// Tells when to look again.
    fn take(&mut self, lists: Lists) -> Duration {
        self.retry.reset();
        let first = self.out.borrow().desired.is_none();
        if first || lists != self.lists {
            self.changed = Instant::now();
            self.draw(&lists);
            self.lists = lists;
        } else {
            self.out.send_modify(|polled| {
                polled.at = Some(SystemTime::now());
                polled.trouble = None;
            });
        }
        if !is_restless(&self.lists) {
            CALM
        } else if self.changed.elapsed() < LONG {
            RESTLESS
        } else {
            WAITING
        }
    }

    fn draw(&mut self, lists: &Lists) {
        let mut picture = picture(lists, &self.last);
        let (desired, faults) = sift::sift(picture.desired);
        picture.notes.extend(faults);
        if *self.last != desired {
            self.last = Arc::new(desired);
        }
        let desired = Some(Arc::clone(&self.last));
        self.out.send_replace(Polled {
            desired,
            at: Some(SystemTime::now()),
            notes: picture.notes.into(),
            leader: picture.leader,
            trouble: None,
        });
    }

    /// Says so while it lasts too long.
    async fn wait(&self, lists: impl Future<Output = Result<Lists, Trouble>>) -> Result<Lists, Trouble> {
        let mut lists = std::pin::pin!(lists);
        match timeout(SLOW, &mut lists).await {
            Ok(answer) => answer,
            Err(_) => {
                self.complain(Trouble::Silent { waited: SLOW });
                lists.await
            }
        }
    }

    fn fail(&mut self, trouble: Trouble) -> Duration {
        self.complain(trouble);
        self.retry.pause()
    }

    fn complain(&self, trouble: Trouble) {
        self.out.send_if_modified(|polled| {
            let news = polled.trouble.as_ref() != Some(&trouble);
            if news {
                tracing::warn!("the swarm cannot be followed: {trouble}");
                polled.trouble = Some(trouble);
            }
            news
        });
    }
}

#[cfg(test)]
mod tests;
