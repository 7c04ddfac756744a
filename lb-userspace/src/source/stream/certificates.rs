//! The identity of this node as it is now: engines renew certificates and replace authorities while they run.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::identity::{CERTIFICATE, Identity, KEY, ROOTS, Trouble};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Follows the certificates of a directory as long as there is a clone of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificates(watch::Receiver<Standing>);

/// What there is, and what is wrong with the files where they are not what there is.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The last good one; `None` before the first.
    pub identity: Option<Arc<Identity>>,
    pub trouble: Option<Arc<Trouble>>,
}

impl Certificates {
    /// Reads the certificates at once, and again whenever they change. The directory need not be there yet. Reads files,
    /// and must be called within the runtime.
    pub fn watch(directory: PathBuf) -> Self {
        let mut stamp = Stamp::of(&directory);
        let mut first = Standing::default();
        first.load(&directory);
        let (sender, receiver) = watch::channel(first);
        tokio::spawn(async move {
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    _ = ticks.tick() => {}
                }
                let (seen, troubled) = (Stamp::of(&directory), sender.borrow().trouble.is_some());
                // The files are not written at once: what does not fit together yet soon may.
                if seen != stamp || troubled {
                    stamp = seen;
                    sender.send_if_modified(|standing| standing.load(&directory));
                }
            }
        });
        Self(receiver)
    }

    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.0.borrow().identity.clone()
    }

    /// What is wrong with the files; traffic between agents goes on with the last good ones, if there are any.
    pub fn trouble(&self) -> Option<Arc<Trouble>> {
        self.0.borrow().trouble.clone()
    }

    /// Until there are other certificates than this identity's, or other troubles. Never ends where nothing can come any
    /// more.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Until the authorities are others than those of `identity`.
    pub(super) async fn distrusted(mut self, identity: Arc<Identity>) {
        let other = |standing: &Standing| {
            let now = standing.identity.as_ref();
            now.is_some_and(|now| now.roots != identity.roots || now.own.cluster != identity.own.cluster)
        };
        if self.0.wait_for(other).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Standing {
    /// Whether anything is different now.
    fn load(&mut self, directory: &Path) -> bool {
        match Identity::load(directory) {
            Ok(new) => {
                let known = self.identity.as_ref();
                let same = known.is_some_and(|known| (known.roots, known.shown) == (new.roots, new.shown));
                if same && self.trouble.is_none() {
                    return false;
                }
                if !same {
                    let node = &new.own;
                    let replaced = known.is_some_and(|known| known.roots != new.roots);
                    tracing::info!(%node, new_authorities = replaced, "the swarm's certificates are read");
                    self.identity = Some(Arc::new(new));
                }
                self.trouble = None;
                true
            }
            Err(trouble) => {
                let words = trouble.to_string();
                if self
                    .trouble
                    .as_ref()
                    .is_some_and(|known| known.to_string() == words)
                {
                    return false;
                }
                let kept = self.identity.is_some();
                tracing::warn!(
                    last_good_ones_go_on = kept,
                    "the swarm's certificates cannot be used: {words}"
                );
                self.trouble = Some(Arc::new(trouble));
                true
            }
        }
    }
}

/// What is different once a file was written or replaced: times in nanoseconds, number and length.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([Option<[i64; 6]>; 3]);

impl Stamp {
    fn of(directory: &Path) -> Self {
        Self([CERTIFICATE, KEY, ROOTS].map(|name| {
            let metadata = std::fs::metadata(directory.join(name)).ok()?;
            Some([
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
                metadata.ino() as i64,
                metadata.len() as i64,
            ])
        }))
    }
}
