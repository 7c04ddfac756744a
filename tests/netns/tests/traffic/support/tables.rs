//! The tables of a node's programs, read from the kernel: what the agent says of them is what is to be shown.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{Flow, LAYOUT, Rev};
use lb_common::{Plain, V4, V6};
use netns::{Cluster, supervisor};
use nix::sched::{CloneFlags, setns, unshare};

/// A [`Plain`] type for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for; the wrapper is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// How many entries the tables of flows hold, both families together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub flow: usize,
    pub rev: usize,
    pub half: usize,
}

/// All nodes together.
pub fn all(cluster: &Cluster) -> Counts {
    let nodes = cluster.nodes();
    nodes.iter().fold(Counts::default(), |sum, node| {
        let own = of(cluster, node);
        Counts {
            flow: sum.flow + own.flow,
            rev: sum.rev + own.rev,
            half: sum.half + own.half,
        }
    })
}

/// One node's.
pub fn of(cluster: &Cluster, node: &str) -> Counts {
    let mounts = supervisor::mounts(&cluster.state.prefix).unwrap();
    let pins = format!(
        "/sys/fs/bpf/portico-lab/{}/{node}/v{LAYOUT}",
        cluster.state.prefix
    );
    // A thread enters another mount namespace only with a root and a directory of its own.
    let read = move || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(mounts, CloneFlags::CLONE_NEWNS).unwrap();
        let pins = Path::new(&pins);
        Counts {
            flow: entries::<FlowKey<V4>, Flow>(pins, "FLOW4") + entries::<FlowKey<V6>, Flow>(pins, "FLOW6"),
            rev: entries::<RevKey<V4>, Rev<V4>>(pins, "REV4") + entries::<RevKey<V6>, Rev<V6>>(pins, "REV6"),
            half: lru::<FlowKey<V4>, Flow>(pins, "HALF4") + lru::<FlowKey<V6>, Flow>(pins, "HALF6"),
        }
    };
    std::thread::spawn(read).join().unwrap()
}

fn entries<K: Plain, V: Plain>(pins: &Path, name: &str) -> usize {
    count::<K, V>(Map::HashMap(MapData::from_pin(pins.join(name)).unwrap()))
}

fn lru<K: Plain, V: Plain>(pins: &Path, name: &str) -> usize {
    count::<K, V>(Map::LruHashMap(MapData::from_pin(pins.join(name)).unwrap()))
}

fn count<K: Plain, V: Plain>(map: Map) -> usize {
    let map: HashMap<MapData, Raw<K>, Raw<V>> = map.try_into().unwrap();
    // Entries may go while they are counted.
    let there = |key: &Result<Raw<K>, MapError>| key.is_ok();
    map.keys().filter(there).count()
}
