//! From clients to tasks.

use std::rc::Rc;
use std::time::Instant;

use super::carrier::Carrier;
use super::counters::{Amount, Loss};
use super::flows::{FlowId, Key};
use super::inbox::{Inbox, SLOTS};
use super::outbox::Outbox;
use super::place::Among;
use super::sending::Stop;
use super::{Choose, Desk};

impl<C: Choose, F: Fn() -> Option<C>> Carrier<F> {
    /// Carries one batch; true: there may be more.
    pub fn inward(&mut self) -> bool {
        let worker = Rc::clone(&self.worker);
        let Desk {
            inbox,
            outbox,
            sorted,
        } = &mut *worker.desk.borrow_mut();
        // There is nothing, or not enough memory for now: the next datagram is another occasion.
        let Ok(count) = inbox.receive(self.bound(), 0, SLOTS, true) else {
            return false;
        };
        let now = Instant::now();
        let front = (self.front)();
        sorted.clear();
        for slot in 0..count {
            let arrived = inbox.arrived(slot);
            match self.flow_of(arrived, front.as_ref(), now) {
                Ok(id) => sorted.push((id, slot)),
                Err(loss) => {
                    self.counters.lose(loss, arrived.amount());
                    // No member of any node can be reached.
                    if let (Loss::Refused, Some(client), Some(asked)) = (loss, arrived.from, arrived.asked) {
                        self.tell(Key { client, asked }, length(inbox, slot));
                    }
                }
            }
        }
        // Those of a flow stay in order.
        sorted.sort_unstable();
        for batch in sorted.chunk_by(|one, other| one.0 == other.0) {
            self.forward(batch, inbox, outbox, front.as_ref(), now);
        }
        count == SLOTS
    }

    /// Sends the content of slots that belong to one flow to its member.
    fn forward(
        &mut self,
        batch: &[(FlowId, usize)],
        inbox: &Inbox,
        outbox: &mut Outbox,
        front: Option<&C>,
        now: Instant,
    ) {
        let Some(&(mut id, last)) = batch.last() else {
            return;
        };
        let all: Amount = batch.iter().map(|(_, slot)| inbox.arrived(*slot).amount()).sum();
        let Some(flow) = self.flows.get(id) else {
            // It made room for another one of the same batch.
            return self.counters.lose(Loss::Flows, all);
        };
        let key = flow.key;
        outbox.clear();
        for (_, slot) in batch {
            let segment = inbox.arrived(*slot).segment;
            outbox.push(id.0, None, inbox.range(*slot), segment, flow.ceilings.to_task);
        }
        let (mut at, mut lost) = (0, Amount::default());
        let mut failed = Amount::default();
        while let Some(flow) = self.flows.get_mut(id) {
            let Some((stopped, why)) = flow.send(outbox, inbox.bytes(), at, &mut failed) else {
                break;
            };
            at = stopped;
            let loss = match why {
                Stop::Full => flow.towards.fullness(),
                // What was sent earlier: of this nothing was sent yet.
                Stop::Refused => {
                    self.refused(id, front, now);
                    let next = self.flows.find(&key);
                    match next.map_or_else(|| self.begin(key, front, now, Among::Willing), Ok) {
                        Ok(next) => {
                            id = next;
                            continue;
                        }
                        Err(_) => {
                            self.tell(key, length(inbox, last));
                            Loss::Refused
                        }
                    }
                }
            };
            lost = outbox.rest(at);
            self.counters.lose(loss, lost);
            break;
        }
        self.counters.lose(Loss::Failed, failed);
        if let Some(flow) = self.flows.get_mut(id) {
            let content = inbox.range(last);
            flow.note_sent(&inbox.bytes()[content], all.datagrams == 1);
        }
        self.counters.to_tasks.add(all - lost - failed);
    }
}

/// Of the last datagram in a slot.
fn length(inbox: &Inbox, slot: usize) -> u16 {
    let arrived = inbox.arrived(slot);
    let length = match arrived.segment {
        Some(size) => (arrived.length - 1) % usize::from(size) + 1,
        None => arrived.length,
    };
    u16::try_from(length).unwrap_or(u16::MAX)
}
