//! Ways back: the key under which a task knows a flow, and whose that is.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{Flow, HOST_TASK, Local, Rev, flow_state};
use lb_common::{Address, hash};

use super::Path;
use super::case::Case;
use crate::parse::Packet;

/// Ports tried under which the task could see a client whose own port is taken (rule 5).
const PORTS: u32 = 8;
/// The first of them.
const FIRST_PORT: u16 = 32_768;
/// In place of a map's flags: another flow has the way back.
pub const TAKEN: u32 = u32::MAX;

/// The address and the key under which the task knows this flow.
#[inline(always)]
pub fn rev_key<V: Path>(flow: &Flow, local: &Local, packet: &Packet<V::Address>) -> RevKey<V::Address> {
    RevKey {
        task: V::Address::narrow(local.address),
        client: seen::<V>(flow, local, packet),
        task_port: local.port,
        client_port: flow.client_port,
        protocol: packet.key.transport(),
    }
}

/// The address that the task sees in place of the client's, or the client's own.
#[inline(always)]
fn seen<V: Path>(flow: &Flow, local: &Local, packet: &Packet<V::Address>) -> V::Address {
    if flow.state & flow_state::TRANSLATED != 0 {
        mask::<V>(local)
    } else {
        packet.key.client
    }
}

/// What stands for the address of a client that the task cannot be shown; all zero where nothing can.
#[inline(always)]
pub fn mask<V: Path>(local: &Local) -> V::Address {
    if local.ifindex & HOST_TASK == 0 {
        V::own_address()
    } else if local.ifindex == HOST_TASK {
        V::Address::narrow([0; 16])
    } else {
        V::node_vip()
    }
}

/// Finds a way back for the flow, under the client's own port or under another where a different flow has that one, and
/// gives the flags under which it may be put there; [`TAKEN`] where there is none.
#[inline(never)]
pub fn find<V: Path>(case: &mut Case<V::Address>) -> u32 {
    // This node has no address of the family that could stand for the client's.
    if case.back.client == V::Address::narrow([0; 16]) {
        return TAKEN;
    }
    let rev = &case.rev;
    // Of this flow alone: flows of one client that all tried the same few ports would soon find them taken.
    let port = u16::from_ne_bytes(rev.client_port) as u64;
    let mut x = hash::mix(rev.client.fold() ^ rev.front.fold() << 1 ^ port << 40 ^ rev.front_port[1] as u64);
    for _ in 0..PORTS {
        let flags = claim(holder::<V>(&case.back), &case.packet.key);
        if flags != TAKEN {
            return flags;
        }
        case.back.client_port = (FIRST_PORT | x as u16).to_be_bytes();
        x >>= 7;
    }
    TAKEN
}

/// The flags under which a flow's way back may be put where `holder` is, or nobody: never over another flow's, nor over what
/// another CPU puts there meanwhile.
#[inline(always)]
pub fn claim<A: Address>(holder: Option<&Rev<A>>, flow: &FlowKey<A>) -> u32 {
    match holder {
        None => BPF_NOEXIST,
        Some(holder) if leads_to(holder, flow) => BPF_ANY,
        Some(_) => TAKEN,
    }
}

/// Whether `case.back` leads back to the flow of the packet. A half-open flow and its way back go by themselves.
#[inline(never)]
pub fn has_way_back<V: Path>(case: &Case<V::Address>) -> bool {
    let Some(rev) = V::half_revs().get_ptr(&case.back) else {
        return false;
    };
    // SAFETY: a live map value, read only.
    leads_to(unsafe { &*rev }, &case.packet.key)
}

/// Who has this way back. The half-open ones first: while one becomes established it is in both tables.
#[inline(always)]
fn holder<V: Path>(key: &RevKey<V::Address>) -> Option<&'static Rev<V::Address>> {
    let holder = match V::half_revs().get_ptr(key) {
        Some(holder) => holder,
        None => V::revs().get_ptr(key)?,
    };
    // SAFETY: a live map value, read only.
    Some(unsafe { &*holder })
}

/// Whether a way back leads to this flow.
#[inline(always)]
fn leads_to<A: Address>(rev: &Rev<A>, flow: &FlowKey<A>) -> bool {
    rev.client == flow.client
        && rev.client_port == flow.client_port
        && rev.front == flow.front
        && rev.front_port == flow.front_port
        && rev.realm == flow.realm()
}
