//! The end of flows, by the rules of `docs/flow-placement.md`: closed ones after their time, silent ones only when their
//! task no longer has the socket, those of members that are gone at once. A bit at a time, so that it is never felt.

mod sweep;

use std::collections::{BTreeMap, HashMap};

use lb_common::key::{FlowKey, RevKey};
use lb_common::probe::Probe;
use lb_common::table::{Flow, Local, Rev, namespace};
use lb_common::{Address, V4, V6};

use super::batch::Cursor;
use super::maps::{Maps, Reader};
use super::probe::Socket;
use crate::plane::{EbpfError, FlowReport};

/// Entries looked at in one step.
const STEP: usize = 4096;
/// Sockets asked for in one step; what is left of its entries then is looked at in the next.
const QUESTIONS: u32 = 400;

/// Where expiry stands.
#[derive(Default)]
pub struct Expiry {
    stage: Stage,
    cursor: Cursor,
    /// Of the entries read last, those that there were no questions left for.
    left: Option<Entries>,
    /// Flows of each family, as far as this round has counted them, and as the last one did.
    found: [u64; 2],
    held: [u64; 2],
    /// The table looked at last was more than half full.
    crowded: bool,
    counting: FlowReport,
    members: HashMap<u64, u64>,
    /// Generation in force when the round under way began.
    began: u64,
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

impl Stage {
    /// 0 for IPv4, 1 for IPv6.
    fn family(self) -> usize {
        usize::from(matches!(self, Self::Flow6 | Self::Rev6))
    }
}

/// What the next step reads. It is read beside whoever holds the tables, since an apply must not wait for it.
pub struct Reading {
    from: From,
    cursor: Cursor,
}

enum From {
    Flow4(Reader<FlowKey<V4>, Flow>),
    Flow6(Reader<FlowKey<V6>, Flow>),
    Rev4(Reader<RevKey<V4>, Rev<V4>>),
    Rev6(Reader<RevKey<V6>, Rev<V6>>),
    Left(Entries),
}

/// What was read, and where to go on.
pub struct Batch {
    entries: Entries,
    cursor: Cursor,
}

enum Entries {
    Flow4(Vec<(FlowKey<V4>, Flow)>),
    Flow6(Vec<(FlowKey<V6>, Flow)>),
    Rev4(Vec<(RevKey<V4>, Rev<V4>)>),
    Rev6(Vec<(RevKey<V6>, Rev<V6>)>),
}

impl Reading {
    pub fn read(mut self) -> Result<Batch, EbpfError> {
        let cursor = &mut self.cursor;
        let entries = match self.from {
            From::Flow4(reader) => Entries::Flow4(reader.some(cursor, STEP)?),
            From::Flow6(reader) => Entries::Flow6(reader.some(cursor, STEP)?),
            From::Rev4(reader) => Entries::Rev4(reader.some(cursor, STEP)?),
            From::Rev6(reader) => Entries::Rev6(reader.some(cursor, STEP)?),
            From::Left(entries) => entries,
        };
        Ok(Batch {
            entries,
            cursor: self.cursor,
        })
    }
}

/// What the rules need to know besides the tables.
pub struct World<'w> {
    pub locals: &'w HashMap<u64, Local>,
    /// Asks for a task's socket.
    pub ask: &'w dyn Fn(&Probe) -> Socket,
    /// This node's addresses as tasks see them in place of a client's.
    pub mask4: V4,
    pub mask6: V6,
    /// Entries that each family's table of established flows holds.
    pub room: u32,
}

/// Asks for sockets until the step's share is used up.
struct Questions<'w> {
    world: &'w World<'w>,
    /// The table is more than half full.
    crowded: bool,
    left: u32,
}

impl Questions<'_> {
    /// `None` when the share is used up.
    fn ask(&mut self, question: &Probe) -> Option<Socket> {
        // Nobody can be asked, which costs nothing.
        if question.namespace == namespace::UNKNOWN {
            return Some(Socket::Unknown);
        }
        self.left = self.left.checked_sub(1)?;
        Some((self.world.ask)(question))
    }
}

impl Expiry {
    /// What the next step reads, in a round that begins now or goes on. `generation` is the one in force: who waits for a
    /// change to show in the counts needs a round that began after it.
    pub fn next(&mut self, maps: &Maps, generation: u64) -> Reading {
        if self.stage == Stage::Flow4 && self.cursor.is_at_start() && self.left.is_none() {
            self.began = generation;
        }
        let left = self.left.take().map(From::Left);
        let from = left.unwrap_or_else(|| match self.stage {
            Stage::Flow4 => From::Flow4(maps.v4.flow.reader()),
            Stage::Flow6 => From::Flow6(maps.v6.flow.reader()),
            Stage::Rev4 => From::Rev4(maps.v4.rev.reader()),
            Stage::Rev6 => From::Rev6(maps.v6.rev.reader()),
        });
        Reading {
            from,
            cursor: self.cursor,
        }
    }

    /// One step. True at the end of a round through all tables.
    pub fn step(&mut self, batch: Batch, maps: &mut Maps, world: &World) -> Result<bool, EbpfError> {
        let family = self.stage.family();
        self.crowded = self.held[family].max(self.found[family]) > u64::from(world.room) / 2;
        let mut questions = Questions {
            world,
            crowded: self.crowded,
            left: QUESTIONS,
        };
        let mut tally = sweep::Tally::default();
        self.cursor = batch.cursor;
        match batch.entries {
            Entries::Flow4(entries) => {
                let left = sweep::flows(entries, &mut maps.v4, world.mask4, &mut questions, &mut tally)?;
                self.left = (!left.is_empty()).then_some(Entries::Flow4(left));
            }
            Entries::Flow6(entries) => {
                let left = sweep::flows(entries, &mut maps.v6, world.mask6, &mut questions, &mut tally)?;
                self.left = (!left.is_empty()).then_some(Entries::Flow6(left));
            }
            Entries::Rev4(entries) => sweep::orphans(entries, &mut maps.v4)?,
            Entries::Rev6(entries) => sweep::orphans(entries, &mut maps.v6)?,
        }
        self.counting.established += tally.established;
        self.counting.closing += tally.closing;
        self.found[family] += tally.established + tally.closing;
        for (tag, flows) in tally.members {
            *self.members.entry(tag).or_default() += flows;
        }
        if self.left.is_some() || !self.cursor.is_at_start() {
            return Ok(false);
        }
        self.stage = match self.stage {
            Stage::Flow4 => Stage::Flow6,
            Stage::Flow6 => Stage::Rev4,
            Stage::Rev4 => Stage::Rev6,
            Stage::Rev6 => Stage::Flow4,
        };
        if self.stage == Stage::Rev4 {
            self.held = std::mem::take(&mut self.found);
            let members: BTreeMap<u64, u64> = self.members.drain().collect();
            self.counted = FlowReport {
                members,
                generation: Some(self.began),
                ..std::mem::take(&mut self.counting)
            };
        }
        Ok(self.stage == Stage::Flow4)
    }

    /// Whether the table looked at last was more than half full: steps should follow one another sooner.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Flows as the last complete round counted them.
    pub fn counted(&self) -> &FlowReport {
        &self.counted
    }
}

/// The address under which a task sees a client.
fn seen<A: Address>(client: A, mask: A, translated: bool) -> A {
    if translated { mask } else { client }
}
