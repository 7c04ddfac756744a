//! What becomes of one entry.

use std::collections::HashMap;

use lb_common::host::node_vip;
use lb_common::key::{FlowKey, RevKey, TCP};
use lb_common::probe::{Probe, state};
use lb_common::table::{Flow, HOST_TASK, Local, Rev, flow_state, namespace};
use lb_common::{Address, Plain, tick};

use super::super::maps::FamilyMaps;
use super::super::probe::Socket;
use super::super::tables::tick as now;
use super::{Questions, seen};
use crate::plane::EbpfError;

const RESET: u32 = tick::from_seconds(10);
const CLOSING: u32 = tick::from_seconds(120);
/// The same while the table is more than half full: connections of a million strangers a minute must not fill it with
/// what they leave behind. By then both ends have long had what they sent again.
const CLOSING_CROWDED: u32 = tick::from_seconds(10);
const UDP: u32 = tick::from_seconds(180);
/// The same while the table is more than half full: whoever forges the addresses of queries that a task answers must not
/// keep connections out of it.
const UDP_CROWDED: u32 = tick::from_seconds(10);
const IDLE: u32 = tick::from_seconds(600);
/// A reverse entry is made before its flow: younger than this it is no orphan.
const ORPHAN: u32 = tick::from_seconds(5);

/// Flows counted on the way.
#[derive(Default)]
pub struct Tally {
    pub established: u64,
    pub closing: u64,
    pub members: HashMap<u64, u64>,
}

/// What the clock says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Young,
    /// Its time is up unless the task still has the socket.
    Ask,
    Over,
}

fn age(protocol: u8, state: u8, quiet: u32, crowded: bool) -> Age {
    if protocol != TCP {
        let limit = if crowded { UDP_CROWDED } else { UDP };
        return if quiet < limit { Age::Young } else { Age::Over };
    }
    let limit = match (state & flow_state::RESET != 0, flow_state::is_closing(state)) {
        (true, _) => RESET,
        (false, true) if crowded => CLOSING_CROWDED,
        (false, true) => CLOSING,
        (false, false) => IDLE,
    };
    if quiet < limit { Age::Young } else { Age::Ask }
}

/// Established flows and their ways back.
pub trait Flows<A> {
    fn flow(&self, key: &FlowKey<A>) -> Result<Option<Flow>, EbpfError>;
    fn set_flow(&mut self, key: FlowKey<A>, flow: Flow) -> Result<(), EbpfError>;
    fn remove_flow(&mut self, key: &FlowKey<A>) -> Result<(), EbpfError>;
    fn back(&self, back: &RevKey<A>) -> Result<Option<Rev<A>>, EbpfError>;
    fn remove_back(&mut self, back: &RevKey<A>) -> Result<(), EbpfError>;
}

impl<A> Flows<A> for FamilyMaps<A>
where
    lb_common::key::Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    fn flow(&self, key: &FlowKey<A>) -> Result<Option<Flow>, EbpfError> {
        self.flow.get(key)
    }

    fn set_flow(&mut self, key: FlowKey<A>, flow: Flow) -> Result<(), EbpfError> {
        self.flow.set(key, flow)
    }

    fn remove_flow(&mut self, key: &FlowKey<A>) -> Result<(), EbpfError> {
        self.flow.remove(key)
    }

    fn back(&self, back: &RevKey<A>) -> Result<Option<Rev<A>>, EbpfError> {
        self.rev.get(back)
    }

    fn remove_back(&mut self, back: &RevKey<A>) -> Result<(), EbpfError> {
        self.rev.remove(back)
    }
}

/// Some established flows. Returns those that there were no questions left for.
pub fn flows<A: Address>(
    entries: Vec<(FlowKey<A>, Flow)>,
    maps: &mut impl Flows<A>,
    mask: A,
    questions: &mut Questions,
    tally: &mut Tally,
) -> Result<Vec<(FlowKey<A>, Flow)>, EbpfError> {
    let crowded = questions.crowded;
    let mut entries = entries.into_iter();
    while let Some((key, flow)) = entries.next() {
        let Some(local) = questions.world.locals.get(&flow.tag) else {
            // Without its member the task's side of the key is not known: the orphan sweep takes it.
            // A new connection may have taken the entry meanwhile.
            if maps.flow(&key)? == Some(flow) {
                maps.remove_flow(&key)?;
            }
            continue;
        };
        let back = back(&key, &flow, local, mask);
        let mut quiet = tick::elapsed(now(), flow.tick);
        if age(key.protocol as u8, flow.state, quiet, crowded) != Age::Young
            && let Some(rev) = maps.back(&back)?
        {
            quiet = quiet.min(tick::elapsed(now(), rev.tick));
        }
        let closing = flow_state::is_closing(flow.state);
        let over = match age(key.protocol as u8, flow.state, quiet, crowded) {
            Age::Young => false,
            Age::Over => true,
            Age::Ask => match questions.ask(&question(&key, &flow, local, mask)) {
                None => return Ok(std::iter::once((key, flow)).chain(entries).collect()),
                Some(Socket::Gone) => true,
                Some(Socket::Alive) => {
                    revive(maps, &key, &flow)?;
                    false
                }
                // A flow that showed its end is over even where nobody can be asked.
                Some(Socket::Unknown) => closing && local.namespace == namespace::UNKNOWN,
            },
        };
        if over {
            // A new connection may have taken the entry meanwhile.
            if maps.flow(&key)? == Some(flow) {
                maps.remove_flow(&key)?;
                maps.remove_back(&back)?;
            }
        } else if closing {
            tally.closing += 1;
        } else {
            tally.established += 1;
            *tally.members.entry(flow.tag).or_default() += 1;
        }
    }
    Ok(Vec::new())
}

/// Some reverse entries: those whose flow is gone go too.
pub fn orphans<A: Address>(
    entries: Vec<(RevKey<A>, Rev<A>)>,
    maps: &mut FamilyMaps<A>,
) -> Result<(), EbpfError>
where
    lb_common::key::Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    for (back, rev) in entries {
        if tick::elapsed(now(), rev.tick) < ORPHAN {
            continue;
        }
        let key = FlowKey {
            client: rev.client,
            front: rev.front,
            client_port: rev.client_port,
            front_port: rev.front_port,
            protocol: back.protocol,
        }
        .in_realm(rev.realm);
        if maps.flow.get(&key)?.is_none() {
            maps.rev.remove(&back)?;
        }
    }
    Ok(())
}

/// The task has the socket. It is not asked again before the flow has been silent for as long once more, or else flows
/// that live would be all that is ever asked about; and FINs and resets were not believed by its kernel: somebody else's.
fn revive<A: Copy>(maps: &mut impl Flows<A>, key: &FlowKey<A>, flow: &Flow) -> Result<(), EbpfError> {
    let ends = flow_state::FIN_CLIENT | flow_state::FIN_TASK | flow_state::RESET;
    let closing = flow_state::is_closing(flow.state);
    // A packet that came meanwhile says more than the answer.
    if maps.flow(key)? == Some(*flow) {
        maps.set_flow(
            *key,
            Flow {
                // One FIN alone is a half-closed connection, which may go on for long.
                state: if closing { flow.state & !ends } else { flow.state },
                tick: now(),
                ..*flow
            },
        )?;
    }
    Ok(())
}

fn back<A: Address>(key: &FlowKey<A>, flow: &Flow, local: &Local, mask: A) -> RevKey<A> {
    RevKey {
        task: A::narrow(local.address),
        client: seen(
            key.client,
            mask_of(local, mask),
            flow.state & flow_state::TRANSLATED != 0,
        ),
        task_port: local.port,
        client_port: flow.client_port,
        protocol: key.transport(),
    }
}

/// What the task sees in place of a client, where that is not itself; `mask` is what tasks with a device of their own see.
fn mask_of<A: Address>(local: &Local, mask: A) -> A {
    if local.ifindex & HOST_TASK != 0 {
        node_vip()
    } else {
        mask
    }
}

fn question<A: Address>(key: &FlowKey<A>, flow: &Flow, local: &Local, mask: A) -> Probe {
    let back = back(key, flow, local, mask);
    Probe {
        task: local.address,
        client: back.client.widen(),
        task_port: back.task_port,
        client_port: back.client_port,
        family: if size_of::<A>() == 4 { 4 } else { 6 },
        protocol: key.protocol as u8,
        pad: [0; 2],
        namespace: local.namespace,
        state: state::UNASKED,
    }
}

#[cfg(test)]
mod tests;
