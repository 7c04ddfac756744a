//! The tables that follow from the snapshot, and the books kept about them: which pool has which number, blocks and
//! members. Head and chain tables exist once, in the kernel; the agent reads and writes them through its mapping.

mod adopt;
mod apply;
mod assigned;
mod check;
mod direct;
mod fronts;
mod given;
mod hints;
mod kept;
mod locals;
mod members;
mod nodes;
mod pools;
mod resolvers;
mod slots;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use lb_common::key::Front;
use lb_common::socket::End;
use lb_common::table::{self, Local, Node, Settings, Uplink};
use lb_common::{V4, V6};

use super::maps::Maps;
use super::ranges::Ranges;
use crate::config::Limits;
use crate::model::{Family, Pool, Service, Snapshot};
use crate::plane::choice::Here;

pub use adopt::shapes;
pub use check::check_table;
pub use direct::{Left, mapped};
pub use locals::Hooked;

/// Kernel tables and books.
pub struct Tables {
    pub maps: Maps,
    /// Seed of the placement.
    seed: u64,
    /// Name of this node.
    node: Arc<str>,
    limits: Limits,
    /// Which frontends are the packet programs'.
    here: Here,
    /// Free parts of `POOL`, `HEAD` (in blocks), `CHAIN` and `MEMBER`.
    numbers: Ranges,
    heads: Ranges,
    chains: Ranges,
    members: Ranges,
    /// By pool id.
    books: HashMap<u64, Book>,
    fronts4: HashMap<Front<V4>, u32>,
    fronts6: HashMap<Front<V6>, u32>,
    locals: HashMap<u64, Local>,
    /// Addresses of the members in `LOCAL`.
    homes: HashMap<u64, IpAddr>,
    /// Members in `DIRECT`.
    direct: HashMap<u64, End>,
    /// Where the agent is asked for names.
    resolvers: BTreeSet<SocketAddr>,
    /// `OWN` as it is, and as it should be.
    own: HashMap<V6, u8>,
    own_wanted: BTreeMap<V6, u8>,
    /// VIPs of the node for which packets have a way.
    routed: BTreeSet<IpAddr>,
    /// `KEPT` as it is.
    kept: HashMap<Front<V6>, u8>,
    /// How many there was no room for.
    unkept: usize,
    /// `ASSIGNED` as it is.
    assigned: HashMap<V4, V4>,
    /// Whether it is what `applied` says.
    assigned_written: bool,
    /// Networks in which every task is reachable as it is.
    flat: Vec<IpNet>,
    left: Left,
    hooks: HashMap<IpAddr, Hooked>,
    nodes: HashMap<u16, Node>,
    peers: HashMap<V4, u16>,
    uplinks: HashMap<u32, Uplink>,
    settings: Option<Settings>,
    /// Addresses at which frontends without one of their own answer.
    addresses: BTreeSet<IpAddr>,
    /// Ports on which the node itself has connections, or may still have some of its proxy's.
    connected: BTreeSet<u16>,
    /// Ports at which this node's proxy listens for connections.
    open: BTreeSet<(Family, u16)>,
    /// Tags of the nodes that are suspected.
    suspected: BTreeSet<u16>,
    /// Tags of the other nodes without packet programs.
    by_proxy: BTreeSet<u16>,
    /// Where somebody else has the port that this node's proxy would listen at.
    taken: BTreeSet<(IpAddr, u16, u8)>,
    applied: Option<Arc<Snapshot>>,
    /// The tables show all of `applied`: the last attempt did not fail half-way.
    whole: bool,
    /// What could not be carried out, by pool.
    refused: HashMap<u64, Refused>,
    scratch: slots::Scratch,
}

/// A pool for which there was no room, wholly or in part. It is tried again whenever something has changed.
struct Refused {
    change: crate::model::Change,
    /// Key of the configuration, and its value.
    limit: &'static str,
    size: u32,
}

/// What is known of one pool.
struct Book {
    number: u32,
    /// The entry of `POOL`.
    entry: table::Pool,
    /// What is in `MEMBER`, by offset; tag 0 is free.
    members: Vec<table::Member>,
    /// Offsets given up lately: a slot looked up before may still lead there.
    resting: Vec<(Instant, u16)>,
    /// As applied; `None` while only found pinned.
    pool: Option<Arc<Pool>>,
    service: Option<Arc<Service>>,
    /// Since when no member is here although there is a chain table.
    unhosted: Option<Instant>,
}

/// Now, as the programs count.
pub fn tick() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let nanoseconds = now.map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    });
    lb_common::tick::from_nanoseconds(nanoseconds).max(1)
}
