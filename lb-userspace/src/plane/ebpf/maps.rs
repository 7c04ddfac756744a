//! The kernel's maps under their names, typed.

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use lb_common::key::{FlowKey, Front, RevKey};
use lb_common::socket::{End, Turned};
use lb_common::table::{
    ChainSlot, Counter, Flow, HeadBlock, Hint, Local, Member, Node, Pool, Rev, Settings, Uplink,
};
use lb_common::trace::Trace;
use lb_common::{Plain, V4, V6};

use super::batch::{self, Cursor};
use super::flat::Flat;
use super::mapped::Mapped;
use super::raw::Raw;
use crate::plane::EbpfError;

/// Every map the agent uses.
pub struct Maps {
    pub v4: FamilyMaps<V4>,
    pub v6: FamilyMaps<V6>,
    pub pool: Row<Pool>,
    pub head: Mapped<HeadBlock>,
    pub chain: Mapped<ChainSlot>,
    pub member: Row<Member>,
    pub node: Row<Node>,
    pub peer: Table<V4, u16>,
    pub flat: Flat,
    pub local: Table<u64, Local>,
    pub direct: Table<u64, End>,
    pub own: Table<V6, u8>,
    pub kept: Table<Front<V6>, u8>,
    pub resolver: Table<V6, End>,
    pub assigned: Table<V4, V4>,
    pub socket: Table<u64, Turned>,
    pub uplink: Row<Uplink>,
    pub settings: Row<Settings>,
    pub counter: PerCpuArray<MapData, Raw<Counter>>,
    pub trace: Row<Trace>,
}

/// Those that exist once per address family.
pub struct FamilyMaps<A>
where
    Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    pub front: Table<Front<A>, u32>,
    pub half: Table<FlowKey<A>, Flow>,
    pub half_rev: Table<RevKey<A>, Rev<A>>,
    pub flow: Table<FlowKey<A>, Flow>,
    pub rev: Table<RevKey<A>, Rev<A>>,
    pub hint: Table<FlowKey<A>, Hint>,
}

/// A hash map.
pub struct Table<K: Plain, V: Plain> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
    /// For commands aya does not have.
    fd: Arc<OwnedFd>,
}

/// Reads a hash map beside whoever writes it.
pub struct Reader<K, V> {
    name: &'static str,
    fd: Arc<OwnedFd>,
    entries: PhantomData<(K, V)>,
}

/// An array.
pub struct Row<V: Plain> {
    name: &'static str,
    map: Array<MapData, Raw<V>>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub fn take(object: &mut Ebpf) -> Result<Self, EbpfError> {
        Ok(Self {
            v4: FamilyMaps {
                front: table(object, "FRONT4")?,
                half: table(object, "HALF4")?,
                half_rev: table(object, "HALFREV4")?,
                flow: table(object, "FLOW4")?,
                rev: table(object, "REV4")?,
                hint: table(object, "HINT4")?,
            },
            v6: FamilyMaps {
                front: table(object, "FRONT6")?,
                half: table(object, "HALF6")?,
                half_rev: table(object, "HALFREV6")?,
                flow: table(object, "FLOW6")?,
                rev: table(object, "REV6")?,
                hint: table(object, "HINT6")?,
            },
            pool: row(object, "POOL")?,
            head: mapped(object, "HEAD")?,
            chain: mapped(object, "CHAIN")?,
            member: row(object, "MEMBER")?,
            node: row(object, "NODE")?,
            peer: table(object, "PEER4")?,
            flat: Flat::take(object)?,
            local: table(object, "LOCAL")?,
            direct: table(object, "DIRECT")?,
            own: table(object, "OWN")?,
            kept: table(object, "KEPT")?,
            resolver: table(object, "RESOLVER")?,
            assigned: table(object, "ASSIGNED")?,
            socket: table(object, "SOCKET")?,
            uplink: row(object, "UPLINK")?,
            settings: row(object, "SETTINGS")?,
            counter: PerCpuArray::try_from(taken(object, "COUNTER")?).map_err(failed("open", "COUNTER"))?,
            trace: row(object, "TRACE")?,
        })
    }
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub fn get(&self, key: &K) -> Result<Option<V>, EbpfError> {
        match self.map.get(&Raw(*key), 0) {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed("read", self.name)(error)),
        }
    }

    pub fn set(&mut self, key: K, value: V) -> Result<(), EbpfError> {
        self.map
            .insert(Raw(key), Raw(value), 0)
            .map_err(failed("write", self.name))
    }

    /// As [`set`](Self::set); false where there is no room.
    pub fn put(&mut self, key: K, value: V) -> Result<bool, EbpfError> {
        match self.map.insert(Raw(key), Raw(value), 0) {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::E2BIG) => Ok(false),
            Err(error) => Err(failed("write", self.name)(error)),
        }
    }

    /// Writes an entry unless there is one; false where there is, or no room.
    pub fn add(&mut self, key: K, value: V) -> Result<bool, EbpfError> {
        const BPF_NOEXIST: u64 = 1;
        match self.map.insert(Raw(key), Raw(value), BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(error) if errno(&error).is_some_and(|errno| matches!(errno, libc::EEXIST | libc::E2BIG)) => {
                Ok(false)
            }
            Err(error) => Err(failed("write", self.name)(error)),
        }
    }

    /// An entry that is not there is as good as removed: LRU maps lose them at any time.
    pub fn remove(&mut self, key: &K) -> Result<(), EbpfError> {
        match self.map.remove(&Raw(*key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(failed("write", self.name)(error)),
        }
    }

    /// The same for another thread.
    pub fn another(&self) -> Result<Self, EbpfError> {
        let opened = self.fd.try_clone().map_err(MapError::from);
        let map = opened.and_then(MapData::from_fd).map(Map::HashMap);
        Ok(Self {
            name: self.name,
            map: map
                .and_then(HashMap::try_from)
                .map_err(failed("open", self.name))?,
            fd: Arc::clone(&self.fd),
        })
    }

    pub fn reader(&self) -> Reader<K, V> {
        Reader {
            name: self.name,
            fd: Arc::clone(&self.fd),
            entries: PhantomData,
        }
    }

    pub fn all(&self) -> Result<Vec<(K, V)>, EbpfError> {
        let (mut entries, mut cursor) = (Vec::new(), Cursor::default());
        loop {
            batch::lookup(self.fd.as_fd(), &mut cursor, 4096, &mut entries)
                .map_err(|error| unread(self.name, &error))?;
            if cursor.is_at_start() {
                return Ok(entries);
            }
        }
    }
}

impl<K: Plain, V: Plain> Reader<K, V> {
    /// About `room` entries from the cursor on. In an almost empty map of a million buckets the kernel looks for them for
    /// milliseconds.
    pub fn some(&self, cursor: &mut Cursor, room: usize) -> Result<Vec<(K, V)>, EbpfError> {
        let mut entries = Vec::new();
        batch::lookup(self.fd.as_fd(), cursor, room, &mut entries)
            .map_err(|error| unread(self.name, &error))?;
        Ok(entries)
    }
}

fn unread(map: &'static str, error: &std::io::Error) -> EbpfError {
    EbpfError::Map {
        action: "read",
        map,
        reason: error.to_string(),
    }
}

impl<V: Plain> Row<V> {
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    pub fn get(&self, index: u32) -> Result<V, EbpfError> {
        self.map
            .get(&index, 0)
            .map(|Raw(value)| value)
            .map_err(failed("read", self.name))
    }

    pub fn set(&mut self, index: u32, value: V) -> Result<(), EbpfError> {
        self.map
            .set(index, Raw(value), 0)
            .map_err(failed("write", self.name))
    }
}

pub(super) fn table<K: Plain, V: Plain>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<Table<K, V>, EbpfError> {
    let map = taken(object, name)?;
    let fd = Arc::new(duplicate(&map, name)?);
    let map = HashMap::try_from(map).map_err(failed("open", name))?;
    Ok(Table { name, map, fd })
}

fn row<V: Plain>(object: &mut Ebpf, name: &'static str) -> Result<Row<V>, EbpfError> {
    let map = Array::try_from(taken(object, name)?).map_err(failed("open", name))?;
    Ok(Row { name, map })
}

fn mapped<V: Plain>(object: &mut Ebpf, name: &'static str) -> Result<Mapped<V>, EbpfError> {
    let map = taken(object, name)?;
    let fd = duplicate(&map, name)?;
    // The typed map checks the size of the values.
    let entries = Array::<_, Raw<V>>::try_from(map)
        .map_err(failed("open", name))?
        .len();
    Mapped::new(fd, entries).map_err(|error| EbpfError::Map {
        action: "map into memory",
        map: name,
        reason: error.to_string(),
    })
}

pub(super) fn taken(object: &mut Ebpf, name: &'static str) -> Result<Map, EbpfError> {
    object.take_map(name).ok_or(EbpfError::MissingMap(name))
}

fn duplicate(map: &Map, name: &'static str) -> Result<OwnedFd, EbpfError> {
    let (Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data)) = map else {
        return Err(EbpfError::MissingMap(name));
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| EbpfError::Map {
            action: "open",
            map: name,
            reason: error.to_string(),
        })
}

pub(super) fn failed(action: &'static str, map: &'static str) -> impl Fn(MapError) -> EbpfError {
    move |error| EbpfError::Map {
        action,
        map,
        reason: with_causes(&error),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

/// An error and what caused it: the system's own reason is at the end of the chain.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}
