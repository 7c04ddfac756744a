//! What the mesh is called: the current snapshot as the name server asks for it.
//!
//! ```text
//! snapshot ─> part, one per service ─> index ─┬─> lookup   what a name stands for
//!                                             ├─> reverse  who has an address
//! client's address ─> visibility ─────────────┘
//! ```
//! `serve` runs the name server itself, `ask` and `trace` tell people why it answers what it does.
//!
//! The index is swapped whole, soon after the snapshot. It is made from the one before it: what did not change is shared.

mod ask;
mod claims;
mod index;
mod lookup;
mod newcomers;
mod part;
mod place;
pub mod report;
mod resolv_conf;
mod reverse;
mod serve;
mod trace;
mod visibility;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dns::{Directory, Lookup, Reverse, Subject, Zone};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::jobs;
use crate::model::{Snapshot, View};
pub use ask::{Unaskable, record_type};
use index::Index;
use newcomers::Newcomers;
use place::Frame;
pub use serve::{NameServer, has_address, try_address, upstreams};
use visibility::{Sight, own_addresses};

/// How often this node's own addresses are looked up: a bridge that comes has one.
const ADDRESSES: Duration = Duration::from_secs(1);
/// How long names wait for the plane at most: no task that is gone may be told for longer.
const LATE: Duration = Duration::from_millis(50);

/// The directory of a name server.
pub struct Names {
    frame: Arc<Frame>,
    index: ArcSwap<Index>,
    own: ArcSwap<HashSet<IpAddr>>,
    /// Where names are asked for: this node's own whenever somebody has them, however recently they came.
    listen: Box<[IpAddr]>,
    /// Networks that VIPs are taken from: addresses there are the mesh's, or nobody's.
    pools: Box<[IpNet]>,
    /// Where an engine tells of containers that run already.
    newcomers: Option<Newcomers>,
    /// Seconds since 1970: serial numbers grow over restarts too, unless there was more than one change a second all the
    /// time. Nobody transfers the zones by them.
    started: u32,
}

impl Names {
    /// Knows nothing before the first [`Self::show`]. `node` is this one, which is asked at `listen`; `cluster`: whether there
    /// is a Kubernetes zone.
    pub fn new(node: &str, listen: impl IntoIterator<Item = IpAddr>, cluster: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let names = Self {
            frame: Arc::new(Frame {
                node: node.into(),
                cluster,
            }),
            index: ArcSwap::default(),
            own: ArcSwap::default(),
            listen: listen.into_iter().collect(),
            pools: Box::default(),
            newcomers: None,
            started: since.map_or(0, |since| since.as_secs() as u32),
        };
        names.look();
        names
    }

    /// Nobody else is asked who has an address in one of these.
    #[must_use]
    pub fn with_pools(self, pools: &[IpNet]) -> Self {
        let pools = pools.into();
        Self { pools, ..self }
    }

    /// Nothing is denied those at once of whom an engine may tell in a moment.
    #[must_use]
    pub fn with_newcomers(self) -> Self {
        let newcomers = Some(Newcomers::default());
        Self { newcomers, ..self }
    }

    /// Shows this snapshot from now on. One caller at a time.
    pub fn show(&self, snapshot: &Arc<Snapshot>) {
        let next = self.index.load().next(snapshot, &self.frame);
        self.index.store(Arc::new(next));
    }

    /// Shows each snapshot as soon as the plane has applied it, or is late with it: whoever asks for a new name goes there
    /// at once. Ends with the writer.
    pub async fn follow(self: Arc<Self>, mut view: View, mut applied: watch::Receiver<u64>) {
        let mut look = tokio::time::interval(ADDRESSES);
        loop {
            tokio::select! {
                snapshot = view.changed() => match snapshot {
                    // Thousands of names, the first time: not on a thread that others wait for.
                    Ok(snapshot) => {
                        let in_force = applied.wait_for(|generation| *generation >= snapshot.generation);
                        // Where there is no plane nobody is waited for.
                        let _ = timeout(LATE, in_force).await;
                        let names = Arc::clone(&self);
                        let shown = jobs::run("show names", move || names.show(&snapshot));
                        if let Err(panic) = shown.await {
                            tracing::error!(%panic, "names stay as they were; report this as a bug");
                        }
                    }
                    Err(_) => return,
                },
                // Milliseconds where there are thousands of devices.
                _ = look.tick() => {
                    let names = Arc::clone(&self);
                    let _ = jobs::run("look for this node's addresses", move || names.look()).await;
                }
            }
        }
    }

    /// Looks which addresses this node has.
    fn look(&self) {
        let mut own = own_addresses();
        own.extend(&self.listen);
        if **self.own.load() != own {
            self.own.store(Arc::new(own));
        }
    }

    /// Of the snapshot that is shown; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.index.load().snapshot.generation
    }
}

impl Directory for Names {
    fn lookup(&self, client: IpAddr, subject: Subject<'_>) -> Lookup {
        let index = self.index.load();
        let own = self.own.load();
        let sight = Sight::of(client, &index, &own);
        let finding = index.find(sight, subject);
        trace::note(client, sight, subject, &finding);
        lookup::answer(finding, sight, subject)
    }

    fn reverse(&self, client: IpAddr, address: IpAddr) -> Reverse {
        let (index, own) = (self.index.load(), self.own.load());
        // Tasks on the node's own network have its address; what the node is called is for others to say.
        if own.contains(&address) && !index.is_vip(address) {
            return Reverse::Unknown;
        }
        let sight = Sight::of(client, &index, &own);
        trace::note_address(client, sight, address, &index);
        match index.reverse(sight, address) {
            // A service's that is gone, say. Before the first snapshot it may be that of one that is there.
            Reverse::Unknown if self.ready() && self.pools.iter().any(|pool| pool.contains(&address)) => {
                Reverse::Hidden
            }
            told => told,
        }
    }

    fn encloses(&self, client: IpAddr, zone: Zone, name: &str) -> bool {
        let index = self.index.load();
        index.encloses(Sight::of(client, &index, &self.own.load()), zone, name)
    }

    fn ready(&self) -> bool {
        self.generation() > 0
    }

    fn is_new(&self, client: IpAddr) -> bool {
        let Some(newcomers) = self.newcomers.as_ref().filter(|_| self.ready()) else {
            return false;
        };
        let index = self.index.load();
        let sight = Sight::of(client, &index, &self.own.load());
        sight.is_strangers() && newcomers.is_new(client, Instant::now())
    }

    fn serial(&self) -> u32 {
        self.started.wrapping_add(self.generation() as u32)
    }
}

#[cfg(test)]
pub(crate) mod tests;
