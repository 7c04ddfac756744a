//! Owner rules 4, 5 and 2: a new connection finds its task, and becomes an established one.

use lb_common::geneve::flag;
use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{
    Flow, HOST_TASK, Local, NO_MEMBER, Rev, flow_state, local_state, namespace, pool_flag,
};
use lb_common::trace::Step;
use lb_common::{Address, Verdict, tick};

use super::Path;
use super::case::Case;
use super::chain::chain_of;
use super::choose::head;
use super::globals::self_node;
use super::leave::is_host;
use super::note;
use super::scope;
use super::skb::Skb;
use super::socket;
use super::tables::{MEMBER, POOL, local};
use super::ways::{TAKEN, claim, find, has_way_back, mask, rev_key};
use crate::parse::Kind;

/// A task that does not listen gets new connections that nobody else can take after this many ticks, so that its
/// kernel refuses them: silence would leave the client waiting.
const DEAF: u32 = tick::from_seconds(10);
/// Rule 4: the member named, else the head, else the runner-up, the first that can take it; one on another node gets
/// it handed over, once.
#[inline(never)]
pub fn create<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let Some(pool) = POOL.get(case.choice.pool) else {
        return Verdict::NotHere;
    };
    let named = case.arrival.member;
    let first = member(head(pool, pool.head, case.choice.slot).map(|row| row.member));
    // A name from a view that lags may be that of a task which now serves something else.
    if let Some(local) = local(named)
        && local.pool == case.choice.pool
        && (local.state <= local_state::ACTIVE || first.0 == named)
        && takes::<V, DRY>(skb, case, local)
    {
        return make::<V, DRY>(case, named, local);
    }
    let next = chain_of(&case.choice).map_or(NO_MEMBER, |chain| chain.next);
    let second = member((next != NO_MEMBER).then_some(pool.members + next as u32));
    for (tag, node) in [first, second] {
        // The member named may be on another node: a UDP flow's hint led here, and its task is gone.
        if tag == 0 || tag == named && node == self_node() {
            continue;
        }
        if node == self_node() {
            if let Some(local) = local(tag)
                && takes::<V, DRY>(skb, case, local)
            {
                return make::<V, DRY>(case, tag, local);
            }
        } else if case.arrival.flags & flag::MOVED == 0 {
            note::step::<DRY>(Step::RunnerUp, 0);
            case.arrival.flags |= flag::MOVED;
            case.arrival.member = tag;
            case.choice.node = node;
            note::choice::<DRY>(&case.choice);
            return Verdict::Moved;
        }
    }
    // Nobody else: a task that has long been deaf refuses for itself.
    for tag in [named, first.0] {
        if let Some(local) = local(tag)
            && local.pool == case.choice.pool
            && is_long_deaf(local, case.now)
        {
            return make::<V, DRY>(case, tag, local);
        }
    }
    // Nobody at all, as this node sees it.
    if first.0 == 0 && local(named).is_none() {
        return Verdict::NotHere;
    }
    Verdict::NotListening
}

/// Whether the task has not been listening for so long that clients shall hear its kernel's refusal.
#[inline(always)]
fn is_long_deaf(local: &Local, now: u32) -> bool {
    local.ifindex != 0 && local.deaf_since != 0 && tick::elapsed(now, local.deaf_since) > DEAF
}

/// Tag and node of a member by number; zeroes where there is none.
#[inline(always)]
fn member(number: Option<u32>) -> (u64, u16) {
    match number.and_then(|number| MEMBER.get(number)) {
        Some(member) => (member.tag, member.node),
        None => (0, 0),
    }
}

/// Whether the task can take a new connection now: hooked up and, for TCP, listening.
#[inline(never)]
fn takes<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>, local: &mut Local) -> bool {
    if local.ifindex == 0 {
        note::step::<DRY>(Step::NotHooked, 0);
        return false;
    }
    let key = &case.packet.key;
    case.back = RevKey {
        task: V::Address::narrow(local.address),
        client: key.client,
        task_port: local.port,
        client_port: key.client_port,
        protocol: key.transport(),
    };
    if case.packet.kind == Kind::Udp && case.choice.flags & pool_flag::TRANSPARENT != 0 {
        case.taken = V::leads_here(skb, &case.back);
    }
    if case.packet.kind != Kind::Tcp || local.namespace == namespace::UNKNOWN {
        return true;
    }
    let state = V::state(skb, &case.back, local.namespace);
    if state != 0 {
        // Others than Portico's clients reach a task in the node's own namespace, too.
        case.taken = local.ifindex & HOST_TASK != 0
            && !matches!(state, socket::LISTEN | socket::TIME_WAIT | socket::NEW_SYN_RECV);
        if !DRY && local.deaf_since != 0 {
            local.deaf_since = 0;
        }
        note::step::<DRY>(Step::Listening, 0);
        return true;
    }
    note::step::<DRY>(Step::Deaf, 0);
    if !DRY && local.deaf_since == 0 {
        local.deaf_since = case.now;
    }
    false
}

/// Rule 5: reserves the way back first, then the flow.
#[inline(always)]
fn make<V: Path, const DRY: bool>(case: &mut Case<V::Address>, tag: u64, local: &mut Local) -> Verdict {
    case.choice.tag = tag;
    case.choice.node = self_node();
    note::choice::<DRY>(&case.choice);
    if DRY {
        return Verdict::Delivered;
    }
    let state = prepare::<V>(case, local);
    if !reserve::<V>(case) {
        return Verdict::NoPort;
    }
    let half = flow::<V>(case, state);
    match V::halves().insert(&case.packet.key, &half, 0) {
        Ok(()) => Verdict::Delivered,
        Err(_) => Verdict::FlowTableFull,
    }
}

/// Fills in the way back, and gives the state of the flow to be.
#[inline(never)]
pub fn prepare<V: Path>(case: &mut Case<V::Address>, local: &Local) -> u8 {
    case.task = local.ifindex;
    let hidden = hides::<V>(case, local);
    let key = &case.packet.key;
    case.rev = Rev {
        front: key.front,
        client: key.client,
        front_port: key.front_port,
        client_port: key.client_port,
        tick: case.now,
        node: case.arrival.node,
        device: case.arrival.device,
        flags: 0,
        realm: key.realm(),
        pad: [0; 2],
    };
    case.back = RevKey {
        task: V::Address::narrow(local.address),
        client: key.client,
        task_port: local.port,
        client_port: if case.taken {
            other(key.client_port)
        } else {
            key.client_port
        },
        protocol: key.transport(),
    };
    if !hidden {
        return 0;
    }
    put_mask::<V>(&mut case.back, local);
    flow_state::TRANSLATED
}

/// Whether the task cannot be shown the client's address: it would take it for its own, for a neighbour's that does not
/// answer, or for one of this node's although it is another's. The kernel of a task in the node's own namespace would not
/// take the node's own packets from a device, whether they come from the node itself or by another that it asked.
#[inline(never)]
fn hides<V: Path>(case: &Case<V::Address>, local: &Local) -> bool {
    let key = &case.packet.key;
    let realm = key.realm();
    if realm != 0 && realm != self_node() {
        return true;
    }
    if local.ifindex & HOST_TASK != 0 {
        return case.arrival.node == self_node() && is_host(case.arrival.device) || V::is_own(&key.client);
    }
    let task = V::Address::narrow(local.address);
    key.client == task
        || V::same_subnet(key.client, task, local.prefix) && !scope::lies_flat::<V>(&key.client)
}

/// On a stack of its own.
#[inline(never)]
fn put_mask<V: Path>(back: &mut RevKey<V::Address>, local: &Local) -> u32 {
    back.client = mask::<V>(local);
    0
}

/// Another port, to begin with.
#[inline(always)]
fn other(port: [u8; 2]) -> [u8; 2] {
    let port = u16::from_be_bytes(port);
    (port.rotate_left(5) ^ port | 1 << 15).to_be_bytes()
}

/// The entry of a case whose member and way back are chosen.
#[inline(always)]
fn flow<V: Path>(case: &Case<V::Address>, state: u8) -> Flow {
    Flow {
        tag: case.choice.tag,
        isn: 0,
        tick: case.now,
        client_port: case.back.client_port,
        node: case.arrival.node,
        device: case.arrival.device,
        state,
        pad: [0; 2],
    }
}

/// Claims the way back. Where another CPU is faster the packet is dropped, and the client's next finds another port.
#[inline(always)]
fn reserve<V: Path>(case: &mut Case<V::Address>) -> bool {
    match find::<V>(case) {
        TAKEN => false,
        flags => V::half_revs().insert(&case.back, &case.rev, flags as u64).is_ok(),
    }
}

/// Removes a half-open flow, and its way back at `case.back` unless that is another's by now.
#[inline(never)]
pub fn forget<V: Path>(case: &Case<V::Address>) -> u32 {
    if has_way_back::<V>(case) {
        let _ = V::half_revs().remove(&case.back);
    }
    let _ = V::halves().remove(&case.packet.key);
    0
}

/// Makes a half-open flow an established one, whether or not its way back has stayed.
#[inline(always)]
pub fn promote<V: Path>(
    case: &mut Case<V::Address>,
    half: &Flow,
    local: &Local,
) -> Result<&'static mut Flow, Verdict> {
    prepare::<V>(case, local);
    // As the flow began: the subnet's prefix may have changed since.
    case.back = rev_key::<V>(half, local, &case.packet);
    if !replace::<V>(case, half) {
        return Err(Verdict::FlowTableFull);
    }
    let flow = V::flows()
        .get_ptr_mut(&case.packet.key)
        .ok_or(Verdict::FlowTableFull)?;
    // SAFETY: as for `owner::established`.
    Ok(unsafe { &mut *flow })
}

/// The established entries in place of the half-open ones.
#[inline(never)]
fn replace<V: Path>(case: &Case<V::Address>, half: &Flow) -> bool {
    if !keep::<V>(&case.packet.key, half, &case.back, &case.rev) {
        return false;
    }
    forget::<V>(case);
    true
}

/// Moves both entries of a half-open flow into the tables that never evict; leaves them where they are when those are
/// full.
#[inline(never)]
pub fn establish<V: Path>(key: &FlowKey<V::Address>, half: &Flow, back: &RevKey<V::Address>) -> u32 {
    let Some(rev) = V::half_revs().get_ptr(back) else {
        return 0;
    };
    // SAFETY: live map values; the kernel copies them.
    let rev = unsafe { &*rev };
    if !keep::<V>(key, half, back, rev) {
        return 0;
    }
    let _ = V::halves().remove(key);
    let _ = V::half_revs().remove(back);
    1
}

/// Makes the established entries of a flow that has lost its half-open ones.
#[inline(never)]
pub fn restore<V: Path>(case: &Case<V::Address>, state: u8) -> bool {
    let _ = V::half_revs().remove(&case.back);
    keep::<V>(&case.packet.key, &flow::<V>(case, state), &case.back, &case.rev)
}

/// Puts a flow and its way back into the tables that never evict, or neither. The way back never takes another's place.
#[inline(always)]
fn keep<V: Path>(
    key: &FlowKey<V::Address>,
    flow: &Flow,
    back: &RevKey<V::Address>,
    rev: &Rev<V::Address>,
) -> bool {
    // SAFETY: a live map value, read only.
    let holder = V::revs().get_ptr(back).map(|holder| unsafe { &*holder });
    let flags = claim(holder, key);
    if flags == TAKEN || V::revs().insert(back, rev, flags as u64).is_err() {
        return false;
    }
    if V::flows().insert(key, flow, 0).is_err() {
        let _ = V::revs().remove(back);
        return false;
    }
    true
}
