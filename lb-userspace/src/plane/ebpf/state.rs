//! All that the plane knows, behind one lock.

mod published;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use super::backs::WaysBack;
use super::cgroup::Cgroup;
use super::expiry::{Batch, Expiry, Reading, World};
use super::host::Host;
use super::layout::{self, Wanted};
use super::links::Links;
use super::loader::{self, Identity, Programs};
use super::lookup::SocketLookup;
use super::maps::Maps;
use super::pins::Pins;
use super::portico0::Portico0;
use super::ports::ReservedPorts;
use super::refusal::Refusal;
use super::sockets::{self, Graves, Owners};
use super::steering::Steering;
use super::tables::{self, Tables};
use super::{counters, hooks, migrate, probe, trace};
use crate::config::{Cluster, Config, Interfaces, Limits, Mode};
use crate::model::{Shape, Snapshot};
use crate::plane::choice::Here;
use crate::plane::proxy::Beside;
use crate::plane::{
    Difference, EbpfError, InterfaceReport, PlaneReport, Problem, Question, SocketReport, TraceReport, former,
};

/// Kernel objects, books, and the last look at the machine.
pub struct State {
    /// Name of this node.
    pub(super) node: Arc<str>,
    pub(super) interfaces: Interfaces,
    pub(super) limits: Limits,
    keys: Cluster,
    pins: Pins,
    wanted: Vec<Wanted>,
    /// Maps whose entries are still to be copied.
    old: Vec<&'static str>,
    /// What the pinned pools were like, whether or not their tables could be kept.
    shapes: HashMap<u64, Shape>,
    pub(super) tables: Tables,
    pub(super) programs: Option<Loaded>,
    pub(super) links: Links,
    pub(super) cgroup: Cgroup,
    lookup: Arc<SocketLookup>,
    backs: Arc<WaysBack>,
    steering: Steering,
    graves: Graves,
    /// Cookie of the network namespace that the agent runs in.
    namespace: u64,
    pub(super) host: Host,
    /// The addresses to which `host` has the ways, if there are any.
    asked: BTreeSet<IpAddr>,
    pub(super) uplinks: Vec<InterfaceReport>,
    /// Why uplinks, by index, are not served by XDP where they should be.
    pub(super) refusals: BTreeMap<u32, Refusal>,
    pub(super) portico0: Portico0,
    ports: ReservedPorts,
    /// Published ports for which the node's own connections have been looked at.
    published: BTreeSet<u16>,
    /// Those of them that container engines publish, too.
    held: HashSet<(u16, u8)>,
    /// Of this node's listeners at published ports.
    owners: Owners,
    expiry: Expiry,
    /// Where this node's proxy cannot listen.
    taken: BTreeSet<(IpAddr, u16, u8)>,
    /// By who found them.
    pub(super) problems: BTreeMap<&'static str, Vec<Problem>>,
    generation: u64,
    applied_in: u64,
}

/// Loaded programs and who they think this node is.
pub struct Loaded {
    identity: Identity,
    pub programs: Programs,
}

impl State {
    pub fn open(config: &Config, host: Host) -> Result<Self, EbpfError> {
        let keys = config.cluster.keys();
        let pins = Pins::prepare(&config.paths.pins)?;
        let wanted = layout::wanted(&config.limits);
        let shapes = tables::shapes(&pins);
        let old = pins.put_aside(&wanted)?;
        let nobody = Identity {
            node: 0,
            address: Ipv4Addr::UNSPECIFIED,
            cookie: keys.cookie,
            seed: keys.seed,
            namespace: 0,
            dns_ports: [0; 2],
        };
        let mut object = loader::open(&pins, &wanted, &nobody)?;
        if config.mode == Mode::Auto {
            // Who cannot have them shall hear it now, while there is another way.
            if former::are_at_work(&config.paths.pins) {
                loader::try_one(&mut object)?;
            } else {
                Programs::load(loader::open(&pins, &wanted, &nobody)?)?;
            }
        }
        let mut maps = Maps::take(&mut object)?;
        migrate::copy(&pins, &old, &mut maps)?;
        let node: Arc<str> = config.node.as_str().into();
        let mut tables = Tables::adopt(
            maps,
            keys.seed,
            Arc::clone(&node),
            config.limits.clone(),
            config.networks.flat.clone(),
            Here {
                mode: config.mode,
                without_ebpf: None,
            },
        )?;
        let own = host.own_addresses(&hooks::bridges(&host, &HashSet::new()));
        tables.set_resolvers(config.dns.listen.iter().copied());
        tables.set_addresses(host.local_addresses(), &own);
        // Nobody is led past another program before it is known who is of this node.
        tables.add_own()?;
        let lookup = SocketLookup::start(&mut object, &pins, config)?;
        let mut cgroup = Cgroup::new(config.cgroup.clone(), pins.links());
        let namespace = sockets::own_cookie().unwrap_or_else(|error| {
            cgroup.blind(error.to_string());
            0
        });
        Ok(Self {
            node,
            interfaces: config.interfaces.clone(),
            limits: config.limits.clone(),
            links: Links::adopt(pins.links()),
            portico0: Portico0::new(
                config.vip.pool.clone(),
                config.dns.listen.iter().map(|listen| listen.ip()),
            ),
            cgroup,
            lookup: Arc::new(lookup),
            backs: Arc::new(WaysBack::of(&tables.maps)?),
            steering: Steering::default(),
            graves: Graves::default(),
            namespace,
            ports: ReservedPorts::new(&config.paths.runtime),
            published: BTreeSet::new(),
            held: HashSet::new(),
            owners: Owners::default(),
            keys,
            pins,
            wanted,
            old,
            shapes,
            tables,
            programs: None,
            host,
            asked: BTreeSet::new(),
            uplinks: Vec::new(),
            refusals: BTreeMap::new(),
            expiry: Expiry::default(),
            taken: BTreeSet::new(),
            problems: BTreeMap::new(),
            generation: 0,
            applied_in: 0,
        })
    }

    pub fn beside(&self) -> Beside {
        Beside {
            lookup: Some(Arc::clone(&self.lookup) as _),
            backs: Some(Arc::clone(&self.backs) as _),
        }
    }

    pub fn found_shapes(&self) -> &HashMap<u64, Shape> {
        &self.shapes
    }

    /// Carries a snapshot out. `host` is a new look at the machine, where one was needed.
    pub fn apply(&mut self, snapshot: &Arc<Snapshot>, host: Option<Host>) -> Result<(), EbpfError> {
        let began = Instant::now();
        if let Some(host) = host {
            self.asked = snapshot.nodes.values().map(|node| node.address.into()).collect();
            self.asked.extend(self.tables.task_addresses());
            self.host = host;
        }
        self.note_addresses()?;
        self.tables.set_routed(self.routed_vips())?;
        self.place_nodes(snapshot, true)?;
        let before = self.tables.applied();
        let published = before.is_some_and(|before| published::is_same(before, snapshot));
        if !published {
            self.note_vips(snapshot);
            self.ask_node(snapshot)?;
        }
        self.tables.apply(snapshot, self.taken.clone())?;
        self.bury();
        self.tables.beat()?;
        if !published {
            self.keep()?;
        }
        self.place_nodes(snapshot, false)?;
        self.load(snapshot)?;
        self.serve()?;
        if !published {
            self.reserve(snapshot);
        }
        self.generation = snapshot.generation;
        self.applied_in = began.elapsed().as_micros() as u64;
        Ok(())
    }

    /// Address, port and protocol of each socket that this node's proxy wants and cannot have; to be said before a snapshot.
    pub fn set_taken(&mut self, taken: BTreeSet<(IpAddr, u16, u8)>) {
        self.taken = taken;
    }

    /// What is asked of these name servers shall be led to ours; to be said before the first snapshot.
    pub fn steer(&mut self, steering: Steering) {
        self.steering = steering;
    }

    /// Ends the sockets of tasks that left.
    fn bury(&mut self) {
        let left = self.tables.take_left();
        self.graves.bury(left, &mut self.tables.maps.socket);
    }

    /// Tells the programs that the agent lives, and looks after sockets of tasks that left lately.
    pub fn beat(&mut self) -> Result<(), EbpfError> {
        self.tables.beat()?;
        self.keep()?;
        self.graves.sweep(&mut self.tables.maps.socket);
        Ok(())
    }

    /// Loads the programs where there are none for this identity yet, and puts them in the place of those attached.
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), EbpfError> {
        let own = snapshot.nodes.get(&self.node);
        let identity = Identity {
            node: own.map_or(0, |node| node.tag),
            address: own.map_or(Ipv4Addr::UNSPECIFIED, |node| node.address),
            cookie: self.keys.cookie,
            seed: self.keys.seed,
            namespace: self.namespace,
            dns_ports: self.steering.ports(),
        };
        let unknown = own.is_none().then(|| Problem {
            error: format!("the snapshot has no node {}", self.node),
            traffic: "tasks on other nodes cannot be reached from here, nor those here from there".into(),
            fix:
                "add this node to nodes: in the services file, or set node in portico.toml to its name there"
                    .into(),
        });
        self.problems.insert("identity", unknown.into_iter().collect());
        if self
            .programs
            .as_ref()
            .is_some_and(|loaded| loaded.identity == identity)
        {
            return Ok(());
        }
        let object = loader::open(&self.pins, &self.wanted, &identity)?;
        let programs = Programs::load(object)?;
        self.programs = Some(Loaded { identity, programs });
        migrate::copy(&self.pins, &self.old, &mut self.tables.maps)?;
        self.steering.write(&mut self.tables.maps.resolver)?;
        self.replace_programs();
        migrate::copy(&self.pins, &self.old, &mut self.tables.maps)?;
        migrate::finish(&self.pins, &std::mem::take(&mut self.old));
        Ok(())
    }

    /// A new look at the machine, with the ways to `asked`. Returns what the kernel should be asked.
    pub fn look(&mut self, host: Host, asked: BTreeSet<IpAddr>) -> Vec<(u32, IpAddr)> {
        self.asked = asked;
        self.host = host;
        match self.follow() {
            Ok(unresolved) => {
                self.problems.remove("machine");
                unresolved
            }
            Err(error) => {
                tracing::warn!(%error, "what changed on this machine cannot be carried out");
                let problem = Problem {
                    error: error.to_string(),
                    traffic: "what was programmed before goes on".into(),
                    fix: "it is tried again every second".into(),
                };
                self.problems.insert("machine", vec![problem]);
                Vec::new()
            }
        }
    }

    /// The addresses to which the ways are to be known: nodes and tasks here.
    pub fn destinations(&self) -> BTreeSet<IpAddr> {
        let mut destinations = self.tables.task_addresses();
        let nodes = self
            .tables
            .applied()
            .into_iter()
            .flat_map(|snapshot| snapshot.nodes.values());
        destinations.extend(nodes.map(|node| IpAddr::from(node.address)));
        destinations
    }

    /// Tasks are neighbours on bridges, other nodes on anything else.
    pub fn is_bridge(&self, device: u32) -> bool {
        let kind = self
            .host
            .devices
            .get(&device)
            .and_then(|device| device.kind.as_deref());
        kind == Some("bridge")
    }

    pub fn asked(&self) -> &BTreeSet<IpAddr> {
        &self.asked
    }

    /// What the next step of expiry looks at; nothing before there are programs.
    pub fn next_to_expire(&mut self) -> Option<Reading> {
        self.programs.as_ref()?;
        Some(self.expiry.next(&self.tables.maps, self.generation))
    }

    /// One step of expiry; true at the end of a round.
    pub fn expire(&mut self, batch: Batch) -> Result<bool, EbpfError> {
        let Some(loaded) = &mut self.programs else {
            return Ok(true);
        };
        let mask4 = loaded.identity.address.octets();
        let mask6 = self.tables.source6();
        let probe = loaded.programs.tc("probe")?;
        let (maps, locals) = self.tables.flows();
        self.expiry.step(
            batch,
            maps,
            &World {
                locals,
                ask: &|question| probe::ask(probe, question),
                mask4,
                mask6,
                room: self.limits.flows,
            },
        )
    }

    /// Whether a table of flows fills.
    pub fn is_crowded(&self) -> bool {
        self.expiry.is_crowded()
    }

    /// Hints and chain tables that are needed no more.
    pub fn tidy(&mut self) -> Result<(), EbpfError> {
        if self.tables.is_connected() {
            let connected = self.connected();
            self.tables.set_connected(connected)?;
        }
        self.tables.sweep_hints()?;
        let now = Instant::now();
        self.tables.drop_old_chains(now)?;
        self.tables.retry(now)
    }

    pub fn report(&self) -> PlaneReport {
        let mut problems: Vec<Problem> = self.problems.values().flatten().cloned().collect();
        problems.extend(self.tables.problems());
        problems.extend(self.pins.problems());
        problems.extend(self.cgroup.problem());
        problems.extend(self.graves.problem());
        PlaneReport {
            generation: self.generation,
            applied_in: self.applied_in,
            interfaces: self.uplinks.clone(),
            portico0: self.portico0_report(),
            masks: self.masks(),
            flat: self.tables.flat().to_vec(),
            unhooked: self.unhooked(),
            counters: counters::read(&self.tables.maps.counter),
            flows: self.expiry.counted().clone(),
            sockets: SocketReport {
                lookup_refused: self.lookup.refusal(),
                ..self.steering.report(self.cgroup.report())
            },
            proxy: None,
            problems,
        }
    }

    fn unhooked(&self) -> Vec<IpAddr> {
        let mut tasks = self.tables.task_addresses();
        tasks.retain(|task| !self.tables.hooks().contains_key(task));
        tasks.into_iter().collect()
    }

    /// What stands for clients whose address a task cannot answer, by family; nothing before there are programs.
    fn masks(&self) -> Vec<IpAddr> {
        let own = self
            .programs
            .iter()
            .map(|loaded| IpAddr::from(loaded.identity.address));
        let six = IpAddr::from(self.tables.source6());
        own.chain([six]).filter(|mask| !mask.is_unspecified()).collect()
    }

    pub fn trace(&mut self, question: &Question) -> Result<TraceReport, EbpfError> {
        let device = self.uplinks.first().map_or(0, |uplink| uplink.index);
        let loaded = self.programs.as_mut().ok_or(EbpfError::Idle)?;
        trace::run(
            loaded.programs.tc("trace")?,
            &mut self.tables,
            &self.host,
            question,
            device,
        )
    }

    pub fn reconcile(&mut self) -> Result<Vec<Difference>, EbpfError> {
        if self.programs.is_none() {
            return Err(EbpfError::Idle);
        }
        let mut differences = self.tables.reconcile(&self.steering.entries())?;
        differences.extend(self.missing_links());
        differences.extend(self.lookup.check()?);
        Ok(differences)
    }
}
