//! The proxy plane: sockets instead of packets, where eBPF cannot serve.
//!
//! ```text
//!  snapshot ──> fronts (ArcSwap) ──> listen ──> workers ──> tcp, udp ──> tasks here, relay to other nodes
//!                                                  └──> live: connections by member
//! ```
//! One thread for each processor with sockets of its own at every frontend; a connection never changes its thread. Which
//! task it gets is what [`lb_common::placement`] says, as in the packet programs, so that a change of plane, or another
//! node, leads a client to the same task.

mod counters;
mod datagrams;
mod files;
mod fronts;
pub mod header;
mod listen;
mod live;
pub mod relay;
mod report;
mod socket;
mod tcp;
pub mod udp;
mod vips;
mod workers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::counters::Counters;
use self::fronts::Fronts;
use self::listen::Listeners;
use self::live::Live;
use self::relay::Relay;
use self::vips::Vips;
use self::workers::Workers;
use super::{FlowReport, PlaneReport, Problem};
use crate::config::Config;
use crate::model::{Member, Snapshot};

pub use counters::Cause;
pub use report::{CauseReport, ProxyReport};

/// Between two tries of what could not be opened, and two looks at who drains.
const AGAIN: Duration = Duration::from_secs(1);

/// The plane of one agent. Clones are the same plane; with the last one its listening sockets and connections end.
#[derive(Clone)]
pub struct ProxyPlane {
    shared: Arc<Shared>,
    /// Ended with the plane.
    _tasks: Arc<JoinSet<()>>,
}

/// What workers read.
pub struct Table {
    /// The node that this is.
    pub node: Arc<str>,
    pub fronts: ArcSwap<Fronts>,
    pub live: Arc<Live>,
    pub counters: Counters,
    /// One for each connection of a client that may be carried at once.
    pub places: Arc<Semaphore>,
    pub udp: Arc<udp::Shared>,
    pub datagrams: Arc<udp::Counters>,
}

struct Shared {
    table: Arc<Table>,
    seed: u64,
    state: Mutex<State>,
    runtime: tokio::runtime::Handle,
}

/// What applying a snapshot changes.
struct State {
    workers: Workers,
    listeners: Listeners,
    vips: Vips,
    applied_in: Duration,
}

impl ProxyPlane {
    /// Starts the workers; they listen once there is a snapshot.
    pub fn start(config: &Config, seed: u64, relay: &Relay) -> std::io::Result<Self> {
        // All that the process may open, whatever the bound: UDP flows and other nodes need some, too.
        let all = files::connections();
        let places = match config.proxy.max_connections {
            0 => all,
            bound => bound as usize,
        };
        let table = Arc::new(Table {
            node: config.node.as_str().into(),
            fronts: ArcSwap::default(),
            live: Arc::default(),
            counters: Counters::default(),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            udp: udp::Shared::new(udp::Bounds {
                flows: config.proxy.udp_flows as usize,
                per_source: config.proxy.udp_flows_per_source as usize,
                idle: config.proxy.udp_idle,
                ..udp::Bounds::default()
            }),
            datagrams: Arc::default(),
        });
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match config.proxy.workers {
            0 => processors(),
            count => count as usize,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                workers: Workers::start(count, &table, relay)?,
                listeners: Listeners::new(config.proxy.backlog),
                vips: Vips::new(config),
                applied_in: Duration::ZERO,
            }),
            table,
            seed,
            runtime: tokio::runtime::Handle::current(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).tend());
        Ok(Self {
            shared,
            _tasks: Arc::new(tasks),
        })
    }

    /// Serves what the snapshot says. What cannot be opened is told by [`report`](Self::report) and tried again. Blocks:
    /// to be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) {
        if snapshot.generation == 0 {
            return;
        }
        let began = Instant::now();
        let fronts = Arc::new(Fronts::new(snapshot, &self.shared.table.node, self.shared.seed));
        let mut state = self.shared.state();
        let State {
            workers,
            listeners,
            vips,
            applied_in,
        } = &mut *state;
        // The way to an address comes before what listens there, and both before whoever is told of it.
        self.shared.runtime.block_on(vips.follow(snapshot));
        // Members are known before a client is led to them.
        self.shared
            .table
            .live
            .follow(snapshot, &self.shared.table.node, |_| true);
        self.shared.table.fronts.store(Arc::clone(&fronts));
        listeners.follow(&fronts, workers);
        *applied_in = began.elapsed();
    }

    /// Knows whose connections there may be, and serves nobody: other nodes may want tasks of this one all the same.
    pub fn know(&self, snapshot: &Snapshot) {
        let table = &self.shared.table;
        let is_here = |member: &Member| member.node == table.node;
        table.live.follow(snapshot, &table.node, is_here);
    }

    /// Connections to this node's tasks that the proxy carries, for its own clients and for other nodes.
    pub fn flows(&self) -> FlowReport {
        self.shared.table.live.report()
    }

    pub fn report(&self) -> PlaneReport {
        let state = self.shared.state();
        let table = &self.shared.table;
        let fronts = table.fronts.load();
        let problems: Vec<Problem> = state.listeners.problems().chain(state.vips.problems()).collect();
        PlaneReport {
            generation: fronts.generation,
            applied_in: state.applied_in.as_micros() as u64,
            flows: self.flows(),
            proxy: Some(table.counters.report(&state.listeners, state.workers.count())),
            problems,
            ..PlaneReport::default()
        }
    }
}

impl Shared {
    /// A panic while the lock was held leaves books that the next snapshot mends.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let mut state = self.state();
            let State {
                workers, listeners, ..
            } = &mut *state;
            listeners.retry(workers);
            drop(state);
            self.table.live.look();
        }
    }
}

#[cfg(test)]
mod tests;
