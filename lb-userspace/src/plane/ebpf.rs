//! The eBPF plane: everything between a snapshot and the kernel.
//!
//! ```text
//!  snapshot ──> tables ──> maps (pinned)  <── programs (attached by pinned links)
//!                 ^
//!  netlink ──> host ──> uplinks, ways, hooks
//! ```
//! Nothing here is needed for packets to flow: an agent that is killed leaves maps and programs at work, and the next one
//! adopts them.

mod backs;
mod batch;
pub mod cgroup;
mod connected;
mod counters;
mod expiry;
mod flat;
mod hooks;
mod host;
mod layout;
mod link;
mod links;
mod loader;
mod lookup;
mod machine;
mod mapped;
mod maps;
mod migrate;
mod netlink;
pub mod object;
mod pins;
mod portico0;
mod ports;
mod probe;
mod ranges;
mod raw;
mod refusal;
mod sockets;
mod state;
mod steering;
mod supervise;
mod tables;
mod tasks;
mod trace;
mod uplinks;
mod ways;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::host::Host;
use self::netlink::Netlink;
use self::state::State;
use self::steering::Steering;
use self::supervise::Duty;
use super::collision::{Claims, Survey};
use super::proxy::Beside;
use super::{Difference, EbpfError, PlaneReport, Problem, Question, TraceReport};
use crate::config::{Config, Dns};
use crate::jobs;
use crate::model::{Family, Shape, Snapshot};

/// The plane of one agent. Clones are the same plane; with the last one the agent's part ends, and packets flow on.
#[derive(Clone)]
pub struct EbpfPlane {
    shared: Arc<Shared>,
    /// Ended with the plane.
    _tasks: Arc<JoinSet<()>>,
}

/// How this machine stands to the networks of VIPs, whether or not an agent runs.
pub async fn survey(claims: &Claims<'_>) -> Result<Survey, EbpfError> {
    let host = Netlink::connect()?.read(&BTreeSet::new()).await?;
    Ok(portico0::survey(&host, claims))
}

/// Takes away what no pin holds: filters, where links to devices are not known to the kernel.
pub fn remove_filters() {
    links::remove_filters();
}

/// What the plane's tasks share.
struct Shared {
    state: Mutex<State>,
    netlink: Netlink,
    /// Look at the machine now.
    look: Notify,
    runtime: tokio::runtime::Handle,
}

impl Shared {
    /// A panic while the lock was held leaves books that the next reconciliation mends.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a thread that may wait: whoever loads programs has the state for seconds, and the runtime's few threads send
    /// heartbeats meanwhile.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> T {
        let shared = Arc::clone(self);
        match jobs::run(what, move || work(&mut shared.state())).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The task, begun again whenever it ends; `status` says so.
    async fn keep<F>(self: Arc<Self>, duty: Duty, task: impl Fn(Arc<Self>) -> F)
    where
        F: Future<Output = Result<Infallible, EbpfError>>,
    {
        let begin = || task(Arc::clone(&self));
        let tell = |problem: Option<Problem>| {
            let problems = problem.into_iter().collect();
            let shared = Arc::clone(&self);
            jobs::run("note a problem", move || {
                shared.state().problems.insert(duty.name, problems)
            });
        };
        supervise::keep(duty, begin, tell).await;
    }
}

impl EbpfPlane {
    /// Opens or adopts the maps and looks at the machine. Programs are loaded with the first snapshot, which says who this
    /// node is.
    pub async fn start(config: &Config) -> Result<Self, EbpfError> {
        let netlink = Netlink::connect()?;
        let host = netlink.read(&BTreeSet::new()).await?;
        let state = State::open(config, host)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            netlink,
            look: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).keep(tasks::WATCH, tasks::watch));
        tasks.spawn(Arc::clone(&shared).keep(tasks::BEATING, tasks::beat));
        tasks.spawn(Arc::clone(&shared).keep(tasks::EXPIRY, tasks::expire));
        Ok(Self {
            shared,
            _tasks: Arc::new(tasks),
        })
    }

    /// Tags of the members to which the tables led that an agent before this one left; `None` where there was none. To be
    /// asked before the first snapshot, which changes them.
    pub fn found_active(&self) -> Option<HashSet<u64>> {
        self.shared.state().tables.found_active()
    }

    /// Slots and affinity of the pools that an agent before this one left, by pool id.
    pub fn found_shapes(&self) -> HashMap<u64, Shape> {
        self.shared.state().found_shapes().clone()
    }

    /// With `dns.intercept`, what containers ask of these name servers is led to ours. To be said before the first
    /// snapshot.
    pub fn steer(&self, dns: &Dns, upstreams: &[SocketAddr]) {
        self.shared.state().steer(Steering::new(dns, upstreams));
    }

    /// What this node's proxy has of it.
    pub fn beside(&self) -> Beside {
        self.shared.state().beside()
    }

    /// Where somebody else has the port that this node's proxy would listen at (an unspecified address: at all of them), by
    /// number of the protocol. What the next snapshot leaves to the proxy is less for it.
    pub fn set_taken(&self, taken: BTreeSet<(IpAddr, u16, u8)>) {
        self.shared.state().set_taken(taken);
    }

    /// Ports at which this node's proxy listens for connections of a family, and may have some: a pool that is made at one of them, as its
    /// family has its first task, leaves them alone.
    pub fn set_open(&self, ports: BTreeSet<(Family, u16)>) {
        self.shared.state().tables.set_open(ports);
    }

    /// Makes the kernel show the snapshot. Blocks: for microseconds to milliseconds as a rule, for as long as the kernel
    /// verifies the programs the first time. To be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), EbpfError> {
        if snapshot.generation == 0 {
            return Ok(());
        }
        let host = self.ways_to(snapshot)?;
        let result = self.shared.state().apply(snapshot, host);
        // New tasks and nodes are to be found.
        self.shared.look.notify_one();
        result
    }

    pub fn report(&self) -> PlaneReport {
        self.shared.state().report()
    }

    /// What the loaded program does with a packet. Nothing else is touched.
    pub fn trace(&self, question: &Question) -> Result<TraceReport, EbpfError> {
        self.shared.state().trace(question)
    }

    /// Compares the kernel's tables with the snapshot and repairs what differs.
    pub fn check(&self) -> Result<Vec<Difference>, EbpfError> {
        self.shared.state().reconcile()
    }

    /// A new look at the machine where the snapshot has nodes to which no way was looked up yet: they must be in place
    /// before a table leads to them.
    fn ways_to(&self, snapshot: &Snapshot) -> Result<Option<Host>, EbpfError> {
        let mut destinations: BTreeSet<IpAddr> =
            snapshot.nodes.values().map(|node| node.address.into()).collect();
        {
            let state = self.shared.state();
            if destinations.is_subset(state.asked()) {
                return Ok(None);
            }
            destinations.extend(state.destinations());
        }
        let host = self
            .shared
            .runtime
            .block_on(self.shared.netlink.read(&destinations))?;
        Ok(Some(host))
    }
}
