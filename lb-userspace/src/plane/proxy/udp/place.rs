//! Which member a flow is with: chosen when it begins, looked at when the snapshot changed, chosen anew when it must move.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::carrier::Carrier;
use super::counters::{Amount, Loss, tick};
use super::fault::Fault;
use super::flows::{Flow, FlowId, Key};
use super::inbox::Arrived;
use super::towards::Towards;
use super::{Choose, Prospect, Target, Way, Worker};
use crate::plane::proxy::header::Transport;
use crate::plane::proxy::header::relay_header::Wanted;

/// Members that could not be reached, one after the other, before a flow is given up.
const TRIES: usize = 8;

/// Whom a flow may be given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those that refused lately, too, where there is nobody else: they are asked, and the client is told.
    All,
    /// Those only that did not refuse lately.
    Willing,
}

impl<C: Choose, F: Fn() -> Option<C>> Carrier<F> {
    /// The flow of what has arrived, with a member that it may stay with.
    pub fn flow_of(&mut self, arrived: &Arrived, front: Option<&C>, now: Instant) -> Result<FlowId, Loss> {
        let (Some(client), Some(asked)) = (arrived.from, arrived.asked) else {
            return Err(Loss::Broadcast);
        };
        let key = Key { client, asked };
        let Some(id) = self.flows.find(&key) else {
            return self.begin(key, front, now, Among::All);
        };
        let (Some(flow), Some(front)) = (self.flows.get_mut(id), front) else {
            return Err(Loss::NoMember);
        };
        flow.seen = now;
        let generation = front.generation();
        if flow.generation == generation {
            return Ok(id);
        }
        let prospect = front.prospect(flow.tag);
        let stays = match prospect {
            Prospect::Active | Prospect::Draining => true,
            Prospect::Gone => false,
            Prospect::Unfit => {
                let other = front.choose(client, &self.refusers.tags(now));
                other.is_none_or(|other| other.tag == flow.tag)
            }
        };
        if stays {
            flow.generation = generation;
            return Ok(id);
        }
        self.flows.remove(id);
        let moved = self.begin(key, Some(front), now, Among::All)?;
        tick(&self.counters.moved);
        Ok(moved)
    }

    /// Gives a flow to a member.
    pub fn begin(&mut self, key: Key, front: Option<&C>, now: Instant, among: Among) -> Result<FlowId, Loss> {
        let front = front.ok_or(Loss::NoMember)?;
        let mut tried = self.refusers.tags(now);
        let mut again = among == Among::All && !tried.is_empty();
        let mut found = None;
        for _ in 0..TRIES {
            let target = match front.choose(key.client, &tried) {
                Some(target) => target,
                None if again => {
                    again = false;
                    tried.clear();
                    continue;
                }
                None => break,
            };
            match self.open(key, front.generation(), target, now) {
                Ok(id) => return Ok(id),
                Err((tag, Loss::Refused)) => {
                    found = Some(Loss::Refused);
                    tried.push(tag);
                }
                Err((_, loss)) => return Err(loss),
            }
        }
        Err(found.unwrap_or(Loss::NoMember))
    }

    /// Fails with the target's tag and the reason.
    fn open(
        &mut self,
        key: Key,
        generation: u64,
        target: Target,
        now: Instant,
    ) -> Result<FlowId, (u64, Loss)> {
        let tag = target.tag;
        let opened = self.flows.make_room(
            &self.worker.shared.census,
            key.client.ip(),
            || towards(&self.worker, self.port, key, &target),
            |_| tick(&self.counters.evicted),
        );
        let (seat, towards) = opened.map_err(|loss| (tag, loss))?;
        let flow = Flow::new(key, (tag, generation), towards, target.held, seat, now);
        let id = self.flows.insert(flow);
        if self.hear(id).is_err() {
            self.flows.remove(id);
            return Err((tag, Loss::Exhausted));
        }
        tick(&self.counters.begun);
        Ok(id)
    }

    /// A flow's task refused something, or there is no way to it: the flow ends. If all that was ever sent by it is one datagram,
    /// a member that is willing gets that; else the client is told that something is lost.
    pub fn refused(&mut self, id: FlowId, front: Option<&C>, now: Instant) {
        let mut id = id;
        // Each turn rules a member out.
        while let Some(mut flow) = self.flows.remove(id) {
            tick(&self.counters.refused);
            self.refusers.note(flow.tag, now);
            let (key, length, only) = (flow.key, flow.length, flow.take_only());
            let was_used = flow.was_used();
            // Its seat and what it holds are free for the next one.
            drop(flow);
            let next = only.and_then(|only| {
                let next = self.begin(key, front, now, Among::Willing).ok()?;
                Some((next, only))
            });
            let Some((next, only)) = next else {
                // It may have been more than one: the kernel tells of one.
                if was_used {
                    self.counters.lose(Loss::Refused, Amount::of(length.into(), None));
                    self.tell(key, length);
                }
                return;
            };
            tick(&self.counters.retried);
            id = next;
            let Some(flow) = self.flows.get_mut(id) else {
                return;
            };
            let posted = flow.towards.post(&only);
            flow.note_sent(&only, true);
            match posted {
                Ok(()) => return,
                Err(error) if Fault::of(&error, false) == Fault::Refused => {}
                Err(_) => return self.counters.lose(Loss::Failed, Amount::of(only.len(), None)),
            }
        }
    }

    /// Tells a client that its datagram of that length was refused.
    pub fn tell(&self, key: Key, length: u16) {
        let front = SocketAddr::new(key.asked, self.port);
        if self.worker.shared.unreachable.tell(key.client, front, length) {
            tick(&self.counters.told);
        }
    }
}

/// The way of a flow that comes by the frontend of that port.
fn towards(worker: &Worker, port: u16, key: Key, target: &Target) -> io::Result<Towards> {
    let node = match &target.way {
        Way::Here(address) => return Towards::task(&worker.shared.ways, *address, key.client),
        Way::There(node) => node,
    };
    let wanted = Wanted {
        member: target.tag,
        transport: Transport::Datagram,
        client: key.client,
        front: SocketAddr::new(key.asked, port),
    };
    worker.trunks.line(node, wanted).map(Towards::Line)
}
