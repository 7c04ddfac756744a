//! A node of a small cluster: the programs' maps, filled as the agent would.

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap};
use aya::{Ebpf, EbpfLoader};
use lb_common::geneve::outer_partial_sum;
use lb_common::hash::mix;
use lb_common::key::{FlowKey, Front, RevKey, TCP, UDP};
use lb_common::table::{
    BLOCK, ChainSlot, Flow, HeadBlock, Local, Member, NO_TABLE, Node, Pool, Rev, Settings, flow_state,
    local_state, node_flag,
};
use lb_common::{Address, Plain, V4, V6};
use lb_ebpf::plan::Plan;

/// A [`Plain`] type for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for; the wrapper is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

pub const FRONT4: V4 = [192, 0, 2, 11];
pub const FRONT6: V6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
/// Source of IPv6 packets; the flow's number is in the last four bytes.
pub const CLIENT6: V6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
pub const CLIENT_PORT: u16 = 40_000;
/// Frontends whose members are on other nodes, and here; and one that is none.
pub const REMOTE: u16 = 8080;
pub const LOCAL: u16 = 8081;
pub const NONE: u16 = 9999;

const TASK: V4 = [172, 18, 0, 2];
const TASK_PORT: u16 = 80;
const SELF: u16 = 11;
const TASK_TAG: u64 = 0xaaaa_0001;
/// Slots of each pool, as by default.
const SLOTS: u32 = 4096;
/// Members of the remote pool, on as many nodes less one.
const MEMBERS: u16 = 10;
/// Room for the flows of the largest measurement of the owner.
const FLOWS: u32 = 1 << 20;

/// Loads the maps of these programs and fills those that lead to a member.
pub fn node(programs: &[u8]) -> Result<Ebpf> {
    let (tag, seed, cookie) = (SELF, 0x1357_9bdf_0246_8aceu64, 0x0123_4567_89ab_cdefu64);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("SELF_NODE", &tag, true)
        .override_global("SELF_ADDRESS", &FRONT4, true)
        .override_global("COOKIE", &cookie, true)
        .override_global("SEED", &seed, true)
        .map_max_entries("FLOW4", FLOWS)
        .map_max_entries("REV4", FLOWS);
    let mut object = loader.load(programs).context("cannot make the maps")?;
    nodes(&mut object)?;
    for (pool, port) in [(0u32, REMOTE), (1, LOCAL)] {
        for protocol in [TCP, UDP] {
            let port = port.to_be_bytes();
            put(&mut object, "FRONT4", Front::new(FRONT4, port, protocol), pool)?;
            put(&mut object, "FRONT6", Front::new(FRONT6, port, protocol), pool)?;
        }
        fill_pool(&mut object, pool)?;
    }
    let settings = Settings {
        mss4: 1388,
        mss6: 1368,
        ..Settings::default()
    };
    set(&mut object, "SETTINGS", 0, settings)?;
    Ok(object)
}

/// The loopback device stands for all: test runs name it, and no packet leaves.
fn nodes(object: &mut Ebpf) -> Result<()> {
    for tag in SELF..=SELF + MEMBERS {
        let address = [192, 0, 2, tag as u8];
        let node = Node {
            address,
            source: FRONT4,
            next_hop: [2, 0, 0, 0, 0, 1],
            own: [2, 0, 0, 0, 0, 11],
            ifindex: 1,
            partial_sum: outer_partial_sum(FRONT4, address),
            mtu: 1500,
            flags: node_flag::KNOWN | node_flag::RESOLVED | node_flag::XDP,
        };
        set(object, "NODE", tag as u32, node)?;
    }
    Ok(())
}

/// Pool 0 has members on other nodes, pool 1 a task of this one.
fn fill_pool(object: &mut Ebpf, number: u32) -> Result<()> {
    let here = number == 1;
    let first = number * MEMBERS as u32;
    let pool = Pool {
        id: mix(number as u64),
        head: number * SLOTS / BLOCK,
        fresh: number * SLOTS / BLOCK,
        chain: if here { 0 } else { NO_TABLE },
        members: first,
        slots: SLOTS,
        ..Pool::default()
    };
    set(object, "POOL", number, pool)?;
    for member in 0..MEMBERS {
        let (tag, node) = if here {
            (TASK_TAG, SELF)
        } else {
            (mix(member as u64 + 1), SELF + 1 + member)
        };
        let entry = Member {
            tag,
            node,
            ..Member::default()
        };
        set(object, "MEMBER", first + member as u32, entry)?;
    }
    for block in 0..SLOTS / BLOCK {
        let mut member = [0; BLOCK as usize];
        for (slot, member) in (block * BLOCK..).zip(&mut member) {
            *member = (mix(slot as u64) % MEMBERS as u64) as u16;
        }
        set(object, "HEAD", pool.head + block, HeadBlock { hinted: 0, member })?;
    }
    if here {
        for slot in 0..SLOTS {
            let mut chain = ChainSlot::default();
            chain.nodes[0] = SELF;
            set(object, "CHAIN", slot, chain)?;
        }
    }
    Ok(())
}

/// The task of the local pool, in the namespace of this id; -1 where nobody shall ask whether it listens.
pub fn task(object: &mut Ebpf, namespace: i32) -> Result<()> {
    let local = Local {
        address: TASK.widen(),
        ifindex: 1,
        namespace,
        deaf_since: 0,
        pool: 1,
        port: TASK_PORT.to_be_bytes(),
        state: local_state::ACTIVE,
        prefix: 16,
    };
    put(object, "LOCAL", TASK_TAG, local)
}

/// Makes the entries of `count` established flows to the local task.
pub fn establish(object: &mut Ebpf, count: u32) -> Result<()> {
    let flow = Flow {
        tag: TASK_TAG,
        client_port: CLIENT_PORT.to_be_bytes(),
        node: SELF,
        device: 1,
        state: flow_state::ANSWERED,
        ..Flow::default()
    };
    let mut flows: HashMap<_, Raw<FlowKey<V4>>, Raw<Flow>> = HashMap::try_from(map(object, "FLOW4")?)?;
    for number in 0..count {
        let key = FlowKey {
            client: Plan::source(number),
            front: FRONT4,
            client_port: CLIENT_PORT.to_be_bytes(),
            front_port: LOCAL.to_be_bytes(),
            protocol: TCP.into(),
        };
        flows.insert(Raw(key), Raw(flow), 0)?;
    }
    let mut revs: HashMap<_, Raw<RevKey<V4>>, Raw<Rev<V4>>> = HashMap::try_from(map(object, "REV4")?)?;
    for number in 0..count {
        let client = Plan::source(number);
        let key = RevKey {
            task: TASK,
            client,
            task_port: TASK_PORT.to_be_bytes(),
            client_port: CLIENT_PORT.to_be_bytes(),
            protocol: TCP.into(),
        };
        let rev = Rev {
            front: FRONT4,
            client,
            front_port: LOCAL.to_be_bytes(),
            client_port: CLIENT_PORT.to_be_bytes(),
            node: SELF,
            device: 1,
            ..Rev::default()
        };
        revs.insert(Raw(key), Raw(rev), 0)?;
    }
    Ok(())
}

/// New connections for which there is room in the tables of half-open ones, by far.
pub const ROOM: u32 = 16_384;

/// Empties the tables of half-open flows.
pub fn clear(object: &mut Ebpf) -> Result<()> {
    let mut halves: HashMap<_, Raw<FlowKey<V4>>, Raw<Flow>> = HashMap::try_from(map(object, "HALF4")?)?;
    let keys: Vec<_> = halves.keys().collect::<Result<_, _>>()?;
    for key in keys {
        halves.remove(&key)?;
    }
    let mut revs: HashMap<_, Raw<RevKey<V4>>, Raw<Rev<V4>>> = HashMap::try_from(map(object, "HALFREV4")?)?;
    let keys: Vec<_> = revs.keys().collect::<Result<_, _>>()?;
    for key in keys {
        revs.remove(&key)?;
    }
    Ok(())
}

pub fn set<V: Plain>(object: &mut Ebpf, name: &'static str, index: u32, value: V) -> Result<()> {
    let mut array: Array<_, Raw<V>> = Array::try_from(map(object, name)?)?;
    Ok(array.set(index, Raw(value), 0)?)
}

fn put<K: Plain, V: Plain>(object: &mut Ebpf, name: &'static str, key: K, value: V) -> Result<()> {
    let mut table: HashMap<_, Raw<K>, Raw<V>> = HashMap::try_from(map(object, name)?)?;
    Ok(table.insert(Raw(key), Raw(value), 0)?)
}

fn map<'o>(object: &'o mut Ebpf, name: &'static str) -> Result<&'o mut aya::maps::Map> {
    object
        .map_mut(name)
        .with_context(|| format!("there is no map {name}"))
}
