//! The end of flows, by the rules of `docs/flow-placement.md`: closed ones after their time, silent ones only when their
//! task no longer has the socket, those of members that are gone at once. A bit at a time, so that it is never felt.

mod sweep;

use std::collections::{BTreeMap, HashMap};

use aya::programs::SchedClassifier;
use lb_common::table::Local;
use lb_common::{Address, V4, V6};

use super::batch::Cursor;
use super::maps::Maps;
use super::probe::{self, Socket};
use crate::plane::{EbpfError, FlowReport};

/// Entries looked at in one step.
const STEP: usize = 4096;
/// Sockets asked for in one step.
const QUESTIONS: u32 = 400;

/// Where expiry stands.
#[derive(Default)]
pub struct Expiry {
    stage: Stage,
    cursor: Cursor,
    counting: FlowReport,
    members: HashMap<u64, u64>,
    counted: FlowReport,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Flow4,
    Flow6,
    Rev4,
    Rev6,
}

/// What the rules need to know besides the tables.
pub struct World<'w> {
    pub locals: &'w HashMap<u64, Local>,
    pub probe: &'w SchedClassifier,
    /// This node's addresses as tasks see them in place of a client's.
    pub mask4: V4,
    pub mask6: V6,
    /// The table of established flows is more than half full.
    pub crowded: bool,
}

/// Asks for sockets until the step's share is used up.
struct Questions<'w> {
    world: &'w World<'w>,
    left: u32,
}

impl Questions<'_> {
    fn ask(&mut self, question: &lb_common::probe::Probe) -> Socket {
        if self.left == 0 {
            return Socket::Unknown;
        }
        self.left -= 1;
        probe::ask(self.world.probe, question)
    }
}

impl Expiry {
    /// One step. True at the end of a round through all tables.
    pub fn step(&mut self, maps: &mut Maps, world: &World) -> Result<bool, EbpfError> {
        let mut questions = Questions {
            world,
            left: QUESTIONS,
        };
        let mut tally = sweep::Tally::default();
        match self.stage {
            Stage::Flow4 => {
                sweep::flows(
                    &mut maps.v4,
                    &mut self.cursor,
                    world.mask4,
                    &mut questions,
                    &mut tally,
                )?;
            }
            Stage::Flow6 => {
                sweep::flows(
                    &mut maps.v6,
                    &mut self.cursor,
                    world.mask6,
                    &mut questions,
                    &mut tally,
                )?;
            }
            Stage::Rev4 => sweep::orphans(&mut maps.v4, &mut self.cursor)?,
            Stage::Rev6 => sweep::orphans(&mut maps.v6, &mut self.cursor)?,
        }
        self.counting.established += tally.established;
        self.counting.closing += tally.closing;
        for (tag, flows) in tally.members {
            *self.members.entry(tag).or_default() += flows;
        }
        if !self.cursor.is_at_start() {
            return Ok(false);
        }
        self.stage = match self.stage {
            Stage::Flow4 => Stage::Flow6,
            Stage::Flow6 => Stage::Rev4,
            Stage::Rev4 => Stage::Rev6,
            Stage::Rev6 => Stage::Flow4,
        };
        if self.stage == Stage::Rev4 {
            let members: BTreeMap<u64, u64> = self.members.drain().collect();
            self.counted = FlowReport {
                members,
                ..std::mem::take(&mut self.counting)
            };
        }
        Ok(self.stage == Stage::Flow4)
    }

    /// Flows as the last round counted them.
    pub fn counted(&self) -> &FlowReport {
        &self.counted
    }
}

/// The address under which a task sees a client.
fn seen<A: Address>(client: A, mask: A, translated: bool) -> A {
    if translated { mask } else { client }
}
