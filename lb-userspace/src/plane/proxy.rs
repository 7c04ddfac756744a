//! The proxy plane: sockets instead of packets, where eBPF cannot serve.
//!
//! ```text
//!  snapshot ──> fronts (ArcSwap) ──> listen ──> workers ──> tcp, udp ──> tasks here, relay to other nodes
//!                                                  └──> live: connections by member
//! ```
//! One thread for each processor with sockets of its own at every frontend; a connection never changes its thread. Which
//! task it gets is what [`lb_common::placement`] says, as in the packet programs, so that a change of plane, or another
//! node, leads a client to the same task.

mod answer;
mod before;
mod beside;
mod counters;
mod datagrams;
mod ends;
mod families;
pub mod files;
mod found;
mod fronts;
pub mod header;
mod heir;
mod listen;
mod live;
mod local;
mod neighbours;
mod news;
pub mod relay;
mod report;
mod serving;
mod socket;
mod sockets;
mod state;
mod tcp;
mod transparent;
pub mod udp;
mod vips;
mod ways;
mod workers;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::before::Before;
use self::counters::Counters;
use self::fronts::{Fronts, Wants};
use self::listen::Listeners;
use self::live::Live;
use self::relay::Relay;
use self::serving::Served;
use self::state::State;
use self::transparent::Transparent;
use self::vips::Vips;
use self::ways::Ways;
use self::workers::Workers;
use super::choice::Here;
use super::{FlowReport, PlaneReport};
use crate::config::Config;
use crate::interfaces;
use crate::model::{Family, Snapshot};

pub use beside::{Backs, Beside, Lookup};
pub use counters::Cause;
pub use fronts::Bind;
pub use report::{CauseReport, ProxyReport, TrunkReport, UdpReport};
pub use sockets::Sockets;
pub use ways::Task;

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
    /// To tasks of this node.
    pub ways: Arc<Ways>,
    /// One for each connection of a client that may be carried at once.
    pub places: Arc<Semaphore>,
    pub udp: Arc<udp::Shared>,
}

struct Shared {
    table: Arc<Table>,
    relay: Relay,
    before: Before,
    seed: u64,
    workers: Workers,
    /// Counts changes of what clients find.
    sockets: watch::Sender<u64>,
    state: Mutex<State>,
    runtime: tokio::runtime::Handle,
}

impl ProxyPlane {
    /// Starts the workers; they listen once there is a snapshot, where it wants that in sockets that were `given` by an
    /// agent before this one.
    pub fn start(
        config: &Config,
        seed: u64,
        relay: &Relay,
        mut given: Sockets,
        beside: Beside,
    ) -> io::Result<Self> {
        if let Some(lookup) = &beside.lookup {
            given.rename(&lookup.found());
        }
        // All that the process may open, whatever the bound: UDP flows and other nodes need some, too.
        let all = files::connections();
        let places = match config.proxy.max_connections as usize {
            0 => all,
            bound if bound > all => {
                tracing::warn!(
                    bound,
                    all,
                    "proxy.max_connections is more than the process may open files for"
                );
                all
            }
            bound => bound,
        };
        let keepalive = socket::keepalive(config.proxy.keepalive);
        let ways = Arc::new(Ways::new(keepalive.clone(), beside.backs));
        let table = Arc::new(Table {
            node: config.node.as_str().into(),
            fronts: ArcSwap::default(),
            live: Arc::default(),
            counters: Counters::default(),
            ways: Arc::clone(&ways),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            udp: udp::Shared::new(
                udp::Bounds {
                    flows: config.proxy.udp_flows as usize,
                    per_source: config.proxy.udp_flows_per_source as usize,
                    idle: config.proxy.udp_idle,
                    ..udp::Bounds::default()
                },
                ways,
            ),
        });
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match config.proxy.workers {
            0 => processors(),
            count => count as usize,
        };
        let served = Served::lately(given.binds(), Instant::now());
        let sockets = watch::Sender::default();
        let shared = Arc::new(Shared {
            workers: Workers::start(count, &table, relay)?,
            state: Mutex::new(State::new(
                Listeners::new(
                    config.proxy.backlog,
                    keepalive,
                    given,
                    beside.lookup,
                    sockets.clone(),
                ),
                Vips::new(config),
                Transparent::new(Arc::clone(&table.ways)),
                served,
            )),
            sockets,
            table,
            relay: relay.clone(),
            before: Before::default(),
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

    /// Serves what of the snapshot is for the proxy `here`. What cannot be opened is told by [`report`](Self::report) and tried
    /// again. Blocks: to be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>, here: &Here) {
        if snapshot.generation == 0 {
            return;
        }
        let (began, is_alone) = (Instant::now(), here.is_proxy_alone());
        let Shared { table, seed, .. } = &*self.shared;
        let mut state = self.shared.state();
        let own: BTreeSet<IpAddr> = if is_alone {
            BTreeSet::new()
        } else {
            let all = interfaces::addresses().into_iter().flatten();
            all.map(|address| address.ip).collect()
        };
        let families = if is_alone {
            Vec::new()
        } else {
            families::known(&own)
        };
        let fronts = Fronts::new(
            snapshot,
            &Wants {
                node: &table.node,
                seed: *seed,
                here,
                families: &families,
                own: &own,
                lately: &|bind| state.served.has(bind) || state.vips.has(bind.address.ip()),
            },
        );
        let fronts = Arc::new(fronts);
        // Before any task is connected to in its clients' names.
        let unled = fronts.binds().filter(|bind| !fronts.may_lead(bind));
        state.listeners.bar(unled.collect(), &self.shared.workers);
        // The way to an address comes before what listens there, and both before whoever is told of it.
        let vips: Vec<IpAddr> = if is_alone {
            let services = snapshot.services.values();
            services.flat_map(|service| &service.vips).copied().collect()
        } else {
            let served = fronts.served().map(|bind| bind.address.ip());
            served.filter(|ip| !ip.is_unspecified()).collect()
        };
        let follow = async {
            state.vips.follow(vips.into_iter(), is_alone, began).await;
            state.transparent.follow(snapshot, &table.node).await;
            // Other nodes want tasks of this one whatever serves here.
            state.neighbours.follow(snapshot, &table.node).await;
        };
        self.shared.runtime.block_on(follow);
        // Members are known before a client is led to them.
        if is_alone {
            table.live.follow(snapshot, &table.node, |_| true);
        } else {
            // Other nodes may want tasks of this one, whoever serves here.
            let members = fronts.members();
            table.live.follow(snapshot, &table.node, |member| {
                member.node == table.node || members.contains(&member.candidate.tag)
            });
        }
        table.fronts.store(Arc::clone(&fronts));
        state.listen(&fronts, &self.shared.workers);
        state.applied_in = began.elapsed();
    }

    /// Where it should serve and cannot, as somebody else has the port, or nothing leads there: address, port and number of the
    /// protocol.
    pub fn missing(&self) -> BTreeSet<(IpAddr, u16, u8)> {
        let missing = self.shared.state().missing(&self.shared.table.fronts.load());
        missing
            .keys()
            .map(|bind| (bind.address.ip(), bind.address.port(), bind.protocol.number()))
            .collect()
    }

    /// Ports at which it listens for connections, by family.
    pub fn open(&self) -> BTreeSet<(Family, u16)> {
        self.shared.state().listeners.ports()
    }

    /// Whether the proxy has made a route by which what is sent to this address reaches this machine's sockets.
    pub fn has_route(&self, ip: IpAddr) -> bool {
        self.shared.state().vips.has(ip)
    }

    /// Connections to this node's tasks that the proxy carries, for its own clients and for other nodes; with those that
    /// agents before this one carry still.
    pub fn flows(&self) -> FlowReport {
        self.shared.before.add_to(self.shared.table.live.report())
    }

    pub fn report(&self) -> PlaneReport {
        let state = self.shared.state();
        let table = &self.shared.table;
        let fronts = table.fronts.load();
        let [udp, udp_for_nodes] = table.udp.report();
        let missing = state.missing(&fronts).into_iter();
        let is_untold = |family| {
            let can_be_told = table.udp.can_tell(family == Family::V6);
            state.listeners.hear_datagrams(family) && !can_be_told
        };
        // Clients of that family are whoever's has the port.
        let problems = state.problems(|bind| fronts.is_across(bind));
        PlaneReport {
            generation: fronts.generation,
            applied_in: state.applied_in.as_micros() as u64,
            flows: self.flows(),
            proxy: Some(ProxyReport {
                udp,
                udp_for_nodes,
                missing: missing.map(|(bind, why)| (bind.to_string(), why)).collect(),
                untold: Family::ALL.into_iter().any(is_untold),
                trunks: table.udp.trunks.report(),
                relay: self.shared.relay.report(),
                ..table
                    .counters
                    .report(&state.listeners, self.shared.workers.count())
            }),
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
            let shared = Arc::clone(&self);
            // Asks the kernel, and waits for whoever applies a snapshot.
            let _ = tokio::task::spawn_blocking(move || shared.look()).await;
            self.table.live.look();
        }
    }

    fn look(&self) {
        let mut state = self.state();
        state.mend(&self.runtime);
        let fronts = self.table.fronts.load();
        if fronts.generation == 0 {
            // Until there is a snapshot clients are led to where an agent before this one led them.
            return;
        }
        state.listen(&fronts, &self.workers);
        state.listeners.retry(&self.workers, Instant::now());
    }
}

#[cfg(test)]
pub mod tests;
