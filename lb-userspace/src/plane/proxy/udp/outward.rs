//! From tasks to clients.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::sys::epoll::EpollEvent;

use super::carrier::Carrier;
use super::counters::{Amount, Loss, tick};
use super::fault::Fault;
use super::flows::FlowId;
use super::inbox::{Inbox, SLOTS};
use super::outbox::Outbox;
use super::trunk::Letter;
use super::{Choose, Desk};
use crate::plane::proxy::news::News;

/// Datagrams, or super-packets, of one flow in a turn: others wait as well.
pub const TURN: usize = 16;

impl<C: Choose, F: Fn() -> Option<C>> Carrier<F> {
    /// Carries what the flows' sockets have, of each so much; true: there may be more.
    pub fn outward(&mut self, news: &News) -> bool {
        let worker = Rc::clone(&self.worker);
        let Desk { inbox, outbox, .. } = &mut *worker.desk.borrow_mut();
        let mut events = [EpollEvent::empty(); SLOTS];
        let events = news.come(&mut events);
        let now = Instant::now();
        let mut more = events.len() == SLOTS;
        let mut refused = Vec::new();
        let mut slot = 0;
        outbox.clear();
        for event in events {
            if slot == SLOTS {
                self.deliver(inbox.bytes(), outbox);
                slot = 0;
            }
            let id = FlowId(event.data());
            let most = TURN.min(SLOTS - slot);
            match self.collect(id, inbox, outbox, slot, most, now) {
                Ok(count) => {
                    slot += count;
                    more |= count == most;
                }
                Err(error) if Fault::of(&error, false) == Fault::Refused => {
                    refused.push(id);
                    // What the task had answered before lies there still.
                    slot += self.collect(id, inbox, outbox, slot, most, now).unwrap_or(0);
                }
                // Nothing after all, or an error that reading has cleared.
                Err(_) => {}
            }
        }
        self.deliver(inbox.bytes(), outbox);
        if !refused.is_empty() {
            let front = (self.front)();
            for id in refused {
                self.refused(id, front.as_ref(), now);
            }
        }
        more
    }

    /// Carries what has come of flows to other nodes.
    pub fn open_mail(&mut self) {
        let worker = Rc::clone(&self.worker);
        let Desk { outbox, .. } = &mut *worker.desk.borrow_mut();
        let mut mail = std::mem::take(&mut self.mail);
        self.mailbox.exchange(&mut mail);
        let now = Instant::now();
        outbox.clear();
        for (id, letter) in &mail.letters {
            if let Letter::Answers { range, size } = letter
                && let Some(flow) = self.flows.get_mut(*id)
            {
                flow.note_answered(now);
                outbox.push(
                    id.0,
                    Some(flow.envelope()),
                    range.clone(),
                    *size,
                    flow.ceilings.to_client,
                );
            }
        }
        self.deliver(&mail.bytes, outbox);
        for (id, letter) in &mail.letters {
            match letter {
                Letter::Answers { .. } => {}
                Letter::Refused => {
                    let front = (self.front)();
                    self.refused(*id, front.as_ref(), now);
                }
                Letter::Crowded => {
                    if let Some(flow) = self.flows.remove(*id) {
                        tick(&self.counters.refused);
                        // The latest, if it was one: more may have gone after it.
                        let lost = Amount::of(flow.length.into(), None);
                        self.counters.lose(Loss::Source, lost);
                    }
                }
                Letter::Closed => {
                    if self.flows.remove(*id).is_some() {
                        tick(&self.counters.idle);
                    }
                }
            }
        }
        mail.clear();
        self.mail = mail;
    }

    /// Takes answers of one flow into slots of the inbox, and addresses them.
    fn collect(
        &mut self,
        id: FlowId,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        first: usize,
        most: usize,
        now: Instant,
    ) -> io::Result<usize> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Ok(0);
        };
        let count = flow.towards.receive(inbox, first, most)?;
        if count > 0 {
            flow.note_answered(now);
        }
        let envelope = flow.envelope();
        for slot in first..first + count {
            let segment = inbox.arrived(slot).segment;
            let range = inbox.range(slot);
            outbox.push(id.0, Some(envelope), range, segment, flow.ceilings.to_client);
        }
        Ok(count)
    }

    /// Sends what was collected, and leaves the outbox empty.
    fn deliver(&mut self, bytes: &[u8], outbox: &mut Outbox) {
        let (mut at, mut lost) = (0, Amount::default());
        let all = outbox.rest(0);
        while let Some(stopped) = outbox.send(self.bound(), bytes, at) {
            at = stopped.at;
            let together = outbox.segment(at);
            let (loss, amount) = match Fault::of(&stopped.error, together.is_some()) {
                Fault::Together => {
                    if let Some(flow) = self.flows.get_mut(FlowId(outbox.mark(at))) {
                        flow.ceilings.to_client = together.map_or(0, |size| size - 1);
                    }
                    outbox.split(at);
                    continue;
                }
                Fault::Full => (Loss::Full, outbox.rest(at)),
                // One client that cannot be reached is no other's trouble.
                Fault::Refused | Fault::One => (Loss::Failed, outbox.amount(at)),
            };
            self.counters.lose(loss, amount);
            lost += amount;
            at += 1;
            if loss == Loss::Full {
                break;
            }
        }
        self.counters.to_clients.add(all - lost);
        outbox.clear();
    }

    /// The frontend's socket.
    pub fn bound(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}
