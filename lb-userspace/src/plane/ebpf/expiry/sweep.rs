//! What becomes of one entry.

use std::collections::HashMap;

use lb_common::key::{FlowKey, RevKey, TCP};
use lb_common::probe::{Probe, state};
use lb_common::table::{Flow, Local, Rev, flow_state};
use lb_common::{Address, Plain, tick};

use super::super::maps::FamilyMaps;
use super::super::probe::Socket;
use super::super::tables::tick as now;
use super::{Questions, seen};
use crate::plane::EbpfError;

const RESET: u32 = tick::from_seconds(10);
const CLOSING: u32 = tick::from_seconds(120);
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
        (false, true) => CLOSING,
        (false, false) => IDLE,
    };
    if quiet < limit { Age::Young } else { Age::Ask }
}

/// Some established flows.
pub fn flows<A: Address>(
    entries: Vec<(FlowKey<A>, Flow)>,
    maps: &mut FamilyMaps<A>,
    mask: A,
    questions: &mut Questions,
    tally: &mut Tally,
) -> Result<(), EbpfError>
where
    lb_common::key::Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    let crowded = questions.world.crowded;
    for (key, flow) in entries {
        let Some(local) = questions.world.locals.get(&flow.tag) else {
            // Without its member the task's side of the key is not known: the orphan sweep takes it.
            // A new connection may have taken the entry meanwhile.
            if maps.flow.get(&key)? == Some(flow) {
                maps.flow.remove(&key)?;
            }
            continue;
        };
        let back = back(&key, &flow, local, mask);
        let mut quiet = tick::elapsed(now(), flow.tick);
        if age(key.protocol as u8, flow.state, quiet, crowded) != Age::Young
            && let Some(rev) = maps.rev.get(&back)?
        {
            quiet = quiet.min(tick::elapsed(now(), rev.tick));
        }
        let closing = flow_state::is_closing(flow.state);
        let over = match age(key.protocol as u8, flow.state, quiet, crowded) {
            Age::Young => false,
            Age::Over => true,
            Age::Ask => match questions.ask(&question(&key, &flow, local, mask)) {
                Socket::Gone => true,
                Socket::Alive if closing => {
                    revive(maps, &key, &flow)?;
                    false
                }
                Socket::Alive => false,
                // A flow that showed its end is over even where nobody can be asked.
                Socket::Unknown => closing && local.namespace < 0,
            },
        };
        if over {
            // A new connection may have taken the entry meanwhile.
            if maps.flow.get(&key)? == Some(flow) {
                maps.flow.remove(&key)?;
                maps.rev.remove(&back)?;
            }
        } else if closing {
            tally.closing += 1;
        } else {
            tally.established += 1;
            *tally.members.entry(flow.tag).or_default() += 1;
        }
    }
    Ok(())
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
        };
        if maps.flow.get(&key)?.is_none() {
            maps.rev.remove(&back)?;
        }
    }
    Ok(())
}

/// FINs and resets that the task's kernel did not believe were somebody else's.
fn revive<A: Address>(maps: &mut FamilyMaps<A>, key: &FlowKey<A>, flow: &Flow) -> Result<(), EbpfError>
where
    lb_common::key::Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    let ends = flow_state::FIN_CLIENT | flow_state::FIN_TASK | flow_state::RESET;
    if maps.flow.get(key)? == Some(*flow) {
        maps.flow.set(
            *key,
            Flow {
                state: flow.state & !ends,
                ..*flow
            },
        )?;
    }
    Ok(())
}

fn back<A: Address>(key: &FlowKey<A>, flow: &Flow, local: &Local, mask: A) -> RevKey<A> {
    RevKey {
        task: A::narrow(local.address),
        client: seen(key.client, mask, flow.state & flow_state::TRANSLATED != 0),
        task_port: local.port,
        client_port: flow.client_port,
        protocol: key.protocol,
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
mod tests {
    use super::*;

    #[test]
    fn an_established_connection_never_ends_by_silence_alone() {
        assert_eq!(age(TCP, flow_state::ANSWERED, u32::MAX, false), Age::Ask);
        assert_eq!(
            age(
                TCP,
                flow_state::ANSWERED | flow_state::FIN_CLIENT,
                IDLE - 1,
                false
            ),
            Age::Young
        );
    }

    #[test]
    fn a_closed_connection_is_translated_for_two_minutes_and_a_reset_one_for_ten_seconds() {
        let both = flow_state::FIN_CLIENT | flow_state::FIN_TASK;
        assert_eq!(age(TCP, both, CLOSING - 1, false), Age::Young);
        assert_eq!(age(TCP, both, CLOSING, false), Age::Ask);
        assert_eq!(age(TCP, flow_state::RESET, RESET - 1, false), Age::Young);
        assert_eq!(age(TCP, flow_state::RESET, RESET, false), Age::Ask);
    }

    #[test]
    fn a_silent_udp_flow_ends_after_three_minutes() {
        assert_eq!(age(lb_common::key::UDP, 0, UDP - 1, false), Age::Young);
        assert_eq!(age(lb_common::key::UDP, 0, UDP, false), Age::Over);
    }

    #[test]
    fn where_the_table_fills_silent_udp_flows_make_room_and_connections_stay() {
        assert_eq!(age(lb_common::key::UDP, 0, UDP_CROWDED - 1, true), Age::Young);
        assert_eq!(age(lb_common::key::UDP, 0, UDP_CROWDED, true), Age::Over);
        assert_eq!(age(TCP, flow_state::ANSWERED, IDLE - 1, true), Age::Young);
    }
}
