//! Which maps are pinned, how large they shall be, and what to do when they are not.

use lb_common::key::{FlowKey, FragmentKey, Front, RevKey};
use lb_common::socket::{End, SocketKey, Turned};
use lb_common::table::{
    BLOCK, ChainSlot, Counter, Flow, HeadBlock, Hint, Last, Local, Member, Node, Pool, Rev, Settings, Spent,
    Uplink,
};
use lb_common::trace::Trace;
use lb_common::{V4, V6, Verdict};

use crate::config::Limits;

/// One pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: &'static str,
    /// `None`: as the programs say.
    pub entries: Option<u32>,
    pub key: u32,
    pub value: u32,
    pub kind: Kind,
}

/// What a map's content is worth when it has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Computed from the snapshot, and full of numbers that lead into one another: all of these are made anew together.
    Derived,
    /// Computed from the snapshot and the machine, on its own.
    Single,
    /// What only the kernel knows: copied.
    State,
}

/// All maps, sized by the configuration.
pub fn wanted(limits: &Limits) -> Vec<Wanted> {
    use Kind::{Derived, Single, State};
    // The kernel gives every processor as many, and calls the map that much larger.
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
    let half_open = limits.half_open.next_multiple_of(cpus);
    let mut maps = vec![
        map::<Front<V4>, u32>("FRONT4", Some(limits.fronts), Derived),
        map::<Front<V6>, u32>("FRONT6", Some(limits.fronts), Derived),
        map::<u32, Pool>("POOL", Some(limits.pools), Derived),
        map::<u32, HeadBlock>("HEAD", Some(limits.slots.div_ceil(BLOCK)), Derived),
        map::<u32, ChainSlot>("CHAIN", Some(limits.hosted_slots), Derived),
        map::<u32, Member>("MEMBER", Some(limits.members), Derived),
        map::<u32, Node>("NODE", None, Single),
        map::<V4, u16>("PEER4", None, Single),
        map::<(u32, V4), u32>("FLAT4", None, Single),
        map::<(u32, V6), u32>("FLAT6", None, Single),
        map::<u64, Local>("LOCAL", Some(limits.members), Single),
        map::<u64, End>("DIRECT", Some(limits.members), Single),
        map::<V6, u8>("OWN", None, Single),
        map::<Front<V6>, u8>("KEPT", Some(limits.fronts), Single),
        map::<Front<V6>, u64>("TAKEN", None, Single),
        map::<u64, u32>("LISTENER", None, Single),
        map::<V6, End>("RESOLVER", None, Single),
        map::<V4, V4>("ASSIGNED", None, Single),
        map::<u32, Uplink>("UPLINK", None, Single),
        map::<u32, Settings>("SETTINGS", None, Single),
        map::<u32, Spent>("LIMIT", None, Single),
        map::<u32, Counter>("COUNTER", Some(Verdict::COUNT as u32), Single),
        map::<u32, Trace>("TRACE", None, Single),
    ];
    maps.extend([
        map::<FlowKey<V4>, Flow>("HALF4", Some(half_open), State),
        map::<FlowKey<V6>, Flow>("HALF6", Some(half_open), State),
        map::<RevKey<V4>, Rev<V4>>("HALFREV4", Some(half_open), State),
        map::<RevKey<V6>, Rev<V6>>("HALFREV6", Some(half_open), State),
        map::<FlowKey<V4>, Flow>("FLOW4", Some(limits.flows), State),
        map::<FlowKey<V6>, Flow>("FLOW6", Some(limits.flows), State),
        map::<RevKey<V4>, Rev<V4>>("REV4", Some(limits.flows), State),
        map::<RevKey<V6>, Rev<V6>>("REV6", Some(limits.flows), State),
        map::<FlowKey<V4>, Hint>("HINT4", Some(limits.hints), State),
        map::<FlowKey<V6>, Hint>("HINT6", Some(limits.hints), State),
        map::<u64, Turned>("SOCKET", Some(limits.sockets), State),
        map::<SocketKey, Turned>("DATAGRAM", None, Single),
        map::<FlowKey<V4>, Last>("LAST4", None, Single),
        map::<FlowKey<V6>, Last>("LAST6", None, Single),
        // The rest of a datagram follows within moments of its first fragment: worth keeping, not worth copying.
        map::<FragmentKey<V4>, [u8; 4]>("FRAGMENT4", None, Single),
        map::<FragmentKey<V6>, [u8; 4]>("FRAGMENT6", None, Single),
    ]);
    maps
}

fn map<K, V>(name: &'static str, entries: Option<u32>, kind: Kind) -> Wanted {
    Wanted {
        name,
        entries,
        key: size_of::<K>() as u32,
        value: size_of::<V>() as u32,
        kind,
    }
}
