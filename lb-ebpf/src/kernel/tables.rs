//! The maps. Sizes here are defaults; the loader sets those of the configuration. IPv4 and IPv6 have maps of their
//! own, so that an IPv4 flow does not pay for IPv6 keys.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, bpf_fib_lookup as Fib};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_common::geneve::Tunnel;
use lb_common::host::ALONE;
use lb_common::key::{FlowKey, FragmentKey, Front, RevKey};
use lb_common::table::{
    ChainSlot, Counter, Flow, GIVEN, HeadBlock, Hint, INSIDE, Last, Local, Member, Node, Pool, Rev, Settings,
    Spent, Uplink,
};
use lb_common::trace::Trace;
use lb_common::{Address, V4, V6, Verdict};

use super::case::Case;
use super::steer::OWN;
use crate::parse::{Family, Four, Six};

const FRONTS: usize = 65_536;
const POOLS: usize = 16_384;
const HEAD_BLOCKS: usize = 16_384;
const CHAIN_SLOTS: usize = 262_144;
const MEMBERS: usize = 65_536;
const LOCALS: usize = 8_192;
const PEERS: usize = 65_535;
const HALVES: usize = 65_536;
const FLOWS: usize = 1_048_576;
const HINTS: usize = 65_536;
const LASTS: usize = 65_536;
const FRAGMENTS: usize = 8_192;
const FLATS: usize = 1_024;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Entries are allocated when made: a million flows cost nothing until they exist.
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// Each processor evicts from its own share of the entries: a flood pays a fifth less, and that on one processor leaves
/// the others' alone.
const LRU_PER_CPU: usize = BPF_F_NO_COMMON_LRU as usize;

type Fronts<A> = HashMap<Front<A>, u32, FRONTS>;
type Halves<A> = LruHashMap<FlowKey<A>, Flow, HALVES, LRU_PER_CPU>;
type Flows<A> = HashMap<FlowKey<A>, Flow, FLOWS, NO_PREALLOC>;
type HalfRevs<A> = LruHashMap<RevKey<A>, Rev<A>, HALVES, LRU_PER_CPU>;
type Revs<A> = HashMap<RevKey<A>, Rev<A>, FLOWS, NO_PREALLOC>;
type Fragments<A> = LruHashMap<FragmentKey<A>, [u8; 4], FRAGMENTS>;
type Hints<A> = LruHashMap<FlowKey<A>, Hint, HINTS>;
type Lasts<A> = LruHashMap<FlowKey<A>, Last, LASTS>;
type Flats<A> = LpmTrie<A, u32, FLATS>;

#[btf_map]
static FRONT4: Fronts<V4> = Fronts::new();
#[btf_map]
static FRONT6: Fronts<V6> = Fronts::new();
#[btf_map]
pub static POOL: Array<Pool, POOLS> = Array::new();
#[btf_map]
pub static HEAD: Array<HeadBlock, HEAD_BLOCKS, MMAPABLE> = Array::new();
#[btf_map]
pub static CHAIN: Array<ChainSlot, CHAIN_SLOTS, MMAPABLE> = Array::new();
#[btf_map]
pub static MEMBER: Array<Member, MEMBERS> = Array::new();
#[btf_map]
pub static NODE: Array<Node, 65_536> = Array::new();
#[btf_map]
pub static PEER4: HashMap<V4, u16, PEERS, NO_PREALLOC> = HashMap::new();
/// Networks in which an address means the same on every node.
#[btf_map]
static FLAT4: Flats<V4> = Flats::new();
#[btf_map]
static FLAT6: Flats<V6> = Flats::new();
#[btf_map]
pub static LOCAL: HashMap<u64, Local, LOCALS, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static UPLINK: Array<Uplink, 256> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
pub static LIMIT: PerCpuArray<Spent, 2> = PerCpuArray::new();
#[btf_map]
pub static COUNTER: PerCpuArray<Counter, { Verdict::COUNT }> = PerCpuArray::new();
#[btf_map]
pub static TRACE: Array<Trace, 1> = Array::new();

#[btf_map]
static HALF4: Halves<V4> = Halves::new();
#[btf_map]
static HALF6: Halves<V6> = Halves::new();
#[btf_map]
static FLOW4: Flows<V4> = Flows::new();
#[btf_map]
static FLOW6: Flows<V6> = Flows::new();
#[btf_map]
static HALFREV4: HalfRevs<V4> = HalfRevs::new();
#[btf_map]
static HALFREV6: HalfRevs<V6> = HalfRevs::new();
#[btf_map]
static REV4: Revs<V4> = Revs::new();
#[btf_map]
static REV6: Revs<V6> = Revs::new();
#[btf_map]
static HINT4: Hints<V4> = Hints::new();
#[btf_map]
static FRAGMENT4: Fragments<V4> = Fragments::new();
#[btf_map]
static FRAGMENT6: Fragments<V6> = Fragments::new();
#[btf_map]
static HINT6: Hints<V6> = Hints::new();
#[btf_map]
static LAST4: Lasts<V4> = Lasts::new();
#[btf_map]
static LAST6: Lasts<V6> = Lasts::new();

/// A routing question: the stack takes no unaligned words, and its answer has two Ethernet addresses in a row.
#[btf_map]
pub static FIB: PerCpuArray<Fib, 1> = PerCpuArray::new();
#[btf_map]
pub static TUNNEL: PerCpuArray<Tunnel, 1> = PerCpuArray::new();
#[btf_map]
static CASE4: PerCpuArray<Case<V4>, 1> = PerCpuArray::new();
#[btf_map]
static CASE6: PerCpuArray<Case<V6>, 1> = PerCpuArray::new();

/// The maps of one address family.
pub trait Tables: Family {
    fn fronts() -> &'static Fronts<Self::Address>;
    fn halves() -> &'static Halves<Self::Address>;
    fn flows() -> &'static Flows<Self::Address>;
    fn half_revs() -> &'static HalfRevs<Self::Address>;
    fn revs() -> &'static Revs<Self::Address>;
    fn hints() -> &'static Hints<Self::Address>;
    fn lasts() -> &'static Lasts<Self::Address>;
    fn fragments() -> &'static Fragments<Self::Address>;
    fn flats() -> &'static Flats<Self::Address>;
    /// Whether it is the underlay address of another node.
    fn is_peer(address: &Self::Address) -> bool;
    /// Whether it is an address by which this node alone goes.
    fn is_own(address: &Self::Address) -> bool;
    /// This CPU's case.
    fn case() -> Option<&'static mut Case<Self::Address>>;
}

macro_rules! tables {
    ($family:ty: $front:ident $half:ident $flow:ident $half_rev:ident $rev:ident $hint:ident $last:ident $fragment:ident $flat:ident $case:ident $peer:ident $own:ident) => {
        impl Tables for $family {
            #[inline(always)]
            fn fronts() -> &'static Fronts<Self::Address> {
                &$front
            }
            #[inline(always)]
            fn halves() -> &'static Halves<Self::Address> {
                &$half
            }
            #[inline(always)]
            fn flows() -> &'static Flows<Self::Address> {
                &$flow
            }
            #[inline(always)]
            fn half_revs() -> &'static HalfRevs<Self::Address> {
                &$half_rev
            }
            #[inline(always)]
            fn revs() -> &'static Revs<Self::Address> {
                &$rev
            }
            #[inline(always)]
            fn hints() -> &'static Hints<Self::Address> {
                &$hint
            }
            #[inline(always)]
            fn lasts() -> &'static Lasts<Self::Address> {
                &$last
            }
            #[inline(always)]
            fn fragments() -> &'static Fragments<Self::Address> {
                &$fragment
            }
            #[inline(always)]
            fn flats() -> &'static Flats<Self::Address> {
                &$flat
            }
            #[inline(always)]
            fn is_peer(address: &Self::Address) -> bool {
                $peer(address)
            }
            #[inline(always)]
            fn is_own(address: &Self::Address) -> bool {
                $own(address)
            }
            #[inline(always)]
            fn case() -> Option<&'static mut Case<Self::Address>> {
                // SAFETY: the element of this CPU, which one program at a time uses, from `open::open` on.
                $case.get_ptr_mut(0).map(|case| unsafe { &mut *case })
            }
        }
    };
}

#[inline(always)]
fn is_peer4(address: &V4) -> bool {
    // SAFETY: only the presence of the value is used.
    unsafe { PEER4.get(address) }.is_some()
}

/// The underlay is IPv4: no other address of a node is known to the others.
#[inline(always)]
fn is_peer6(_: &V6) -> bool {
    false
}

/// In words, for the compiler calls a function to write an address byte by byte, and callers are as deep as may be.
#[inline(never)]
fn is_own4(address: &V4) -> bool {
    let [a, b, c, d] = *address;
    let words = [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])];
    // SAFETY: sixteen bytes either way.
    is_alone(unsafe { &*(&raw const words).cast::<V6>() })
}

#[inline(never)]
fn is_own6(address: &V6) -> bool {
    is_alone(address)
}

#[inline(always)]
fn is_alone(address: &V6) -> bool {
    // SAFETY: the value is compared at once; the agent replaces whole values.
    let value = unsafe { OWN.get(address) };
    value == Some(&ALONE)
}

tables!(Four: FRONT4 HALF4 FLOW4 HALFREV4 REV4 HINT4 LAST4 FRAGMENT4 FLAT4 CASE4 is_peer4 is_own4);
tables!(Six: FRONT6 HALF6 FLOW6 HALFREV6 REV6 HINT6 LAST6 FRAGMENT6 FLAT6 CASE6 is_peer6 is_own6);

/// What may change while the programs run.
#[inline(always)]
pub fn settings() -> Settings {
    match SETTINGS.get(0) {
        Some(settings) => *settings,
        None => Settings {
            mss4: 0,
            mss6: 0,
            chases: 0,
            resets: 0,
            source6: [0; 16],
            alive: 0,
        },
    }
}

/// The pool of a frontend, [`INSIDE`] where it is not for clients from outside, and [`GIVEN`] where the proxy serves it.
#[inline(always)]
pub fn front_and_reach<V: Tables>(front: &Front<V::Address>) -> Option<u32> {
    // SAFETY: the value is copied at once; the agent replaces whole values.
    unsafe { V::fronts().get(front) }.copied()
}

/// The pool of a frontend.
#[inline(always)]
pub fn front<V: Tables>(front: &Front<V::Address>) -> Option<u32> {
    Some(front_and_reach::<V>(front)? & !(INSIDE | GIVEN))
}

/// The pool of a frontend that the client may have addressed on another node, whose addresses are not known here: a
/// published port is in the table once more, under no address.
#[inline(always)]
pub fn front_anywhere<V: Tables>(at: &Front<V::Address>) -> Option<u32> {
    front::<V>(at).or_else(|| published::<V>(at))
}

/// The pool of what a client on this node may ask for: a frontend, or a port of another node's that is published on every
/// node, this one included.
#[inline(always)]
pub fn front_from_here<V: Tables>(at: &Front<V::Address>) -> Option<u32> {
    Some(asked_from_here::<V>(at)? & !(INSIDE | GIVEN))
}

/// The same as the table has it.
#[inline(always)]
pub fn asked_from_here<V: Tables>(at: &Front<V::Address>) -> Option<u32> {
    match front_and_reach::<V>(at) {
        Some(front) => Some(front),
        None if V::is_peer(&at.address) => front_and_reach::<V>(&anywhere::<V>(at)),
        None => None,
    }
}

/// The pool of a published port, whatever the address.
#[inline(always)]
fn published<V: Tables>(at: &Front<V::Address>) -> Option<u32> {
    front::<V>(&anywhere::<V>(at))
}

#[inline(always)]
fn anywhere<V: Tables>(at: &Front<V::Address>) -> Front<V::Address> {
    Front {
        address: V::Address::narrow([0; 16]),
        ..*at
    }
}

/// The member with this tag, if its task runs here.
#[inline(always)]
pub fn local(tag: u64) -> Option<&'static mut Local> {
    // SAFETY: map values outlive the program run; only `deaf_since` is written, as one aligned word.
    LOCAL.get_ptr_mut(tag).map(|local| unsafe { &mut *local })
}
