//! The member's side: flows of another node's clients, each with a socket of its own to its task, as the flows of this
//! node's own clients have.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::EpollEvent;
use tokio::time::MissedTickBehavior;

use super::Members;
use super::frame::{self, Frame, TOGETHER, Unread};
use super::pump::{Link, Pump};
use super::queue::Queue;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::relay_header::Wanted;
use crate::plane::proxy::news::{News, settle};
use crate::plane::proxy::udp::answers::{Answers, readable};
use crate::plane::proxy::udp::carrier::{LINGER, sweep_period};
use crate::plane::proxy::udp::counters::{Amount, Loss, tick};
use crate::plane::proxy::udp::fault::Fault;
use crate::plane::proxy::udp::flows::{Flow, FlowId, Flows};
use crate::plane::proxy::udp::inbox::{Inbox, SLOTS};
use crate::plane::proxy::udp::outbox::Outbox;
use crate::plane::proxy::udp::outward::TURN;
use crate::plane::proxy::udp::sending::Stop;
use crate::plane::proxy::udp::towards::Towards;
use crate::plane::proxy::udp::{Counters, Desk, Shared, Worker};
use crate::present::Present;

/// Why a connection ended that the other node has not ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("{0}")]
    Unread(#[from] Unread),
    #[error("{0}")]
    Broken(#[from] io::Error),
    #[error("it is no node of the cluster any more")]
    Unknown,
}

/// Carries another node's flows until it says no more, or is not understood. To be run on the worker's own thread.
pub async fn serve<S: Link, M: Members>(link: S, members: M, worker: Rc<Worker>) -> Result<(), Ended> {
    let shared = Arc::clone(&worker.shared);
    let _taken = Present::of(&shared.trunks.taken);
    let mut sweep = tokio::time::interval(sweep_period(&shared.bounds));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pump = Pump::new(link);
    let queue = Queue::default();
    let mut retired = worker.retired.subscribe();
    let mut owner = Owner {
        members,
        queue: &queue,
        flows: Flows::default(),
        answers: Answers::default(),
        has_left: false,
        parcels: Vec::new(),
        worker: &worker,
        shared,
    };
    loop {
        if *retired.borrow_and_update() && !owner.has_left {
            owner.has_left = true;
            queue.leave();
        }
        if owner.has_left && owner.flows.is_empty() && queue.is_empty() {
            let _ = pump.end().await;
            return Ok(());
        }
        let answers = owner.answers.handle();
        let more = tokio::select! {
            // The worker is there: it does not end without a word.
            Ok(()) = retired.changed() => false,
            turn = pump.turn(&queue) => {
                if !turn? {
                    return Ok(());
                }
                let done = owner.take(pump.arrived())?;
                pump.consume(done);
                true
            }
            ready = readable(answers.as_deref()) => {
                let mut ready = ready?;
                let more = owner.outward(ready.get_inner());
                settle(&mut ready, more)
            }
            _ = sweep.tick() => {
                if !owner.members.are_for_a_node() {
                    return Err(Ended::Unknown);
                }
                owner.sweep(Instant::now());
                false
            }
        };
        if more {
            // Others of this thread shall have their turn, however many datagrams there are.
            tokio::task::yield_now().await;
        }
    }
}

/// Everything of one connection. Dropping it ends its flows.
struct Owner<'w, M> {
    members: M,
    queue: &'w Queue,
    /// By their numbers.
    flows: Flows<u32>,
    answers: Answers,
    /// Another agent has the sockets of this node, and the other node was told to open flows there.
    has_left: bool,
    /// Of a batch of frames: where datagrams are among what has arrived, and of which size where they are several.
    parcels: Vec<(Range<usize>, Option<u16>)>,
    worker: &'w Worker,
    shared: Arc<Shared>,
}

impl<M: Members> Owner<'_, M> {
    /// Carries what is whole; returns how much that was.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Unread> {
        let Desk { outbox, sorted, .. } = &mut *self.worker.desk.borrow_mut();
        let (mut done, mut ends, now) = (0, Vec::new(), Instant::now());
        sorted.clear();
        self.parcels.clear();
        while let Some((number, frame, length)) = frame::read(&bytes[done..])? {
            done += length;
            let (content, size) = match frame {
                Frame::Datagram(content) => (content, None),
                Frame::Datagrams { size, content } => (content, Some(size)),
                Frame::Open(wanted) => {
                    self.open(number, &wanted, false, now)?;
                    continue;
                }
                Frame::Resume(wanted) => {
                    self.open(number, &wanted, true, now)?;
                    continue;
                }
                Frame::Close => {
                    ends.push(number);
                    continue;
                }
                Frame::Refused(_) | Frame::Leave => return Err(Unread::Direction),
            };
            match self.flows.find(&number) {
                Some(id) => {
                    sorted.push((id, self.parcels.len()));
                    self.parcels.push((done - content.len()..done, size));
                }
                None => self.lose(Loss::Closed, Amount::of(content.len(), size)),
            }
        }
        // Those of a flow stay in order.
        sorted.sort_unstable();
        for batch in sorted.chunk_by(|one, other| one.0 == other.0) {
            self.forward(batch, bytes, outbox, now);
        }
        for number in ends {
            if let Some(id) = self.flows.find(&number) {
                self.flows.remove(id);
            }
        }
        Ok(done)
    }

    /// Sends datagrams that belong to one flow to its task.
    fn forward(&mut self, batch: &[(FlowId, usize)], bytes: &[u8], outbox: &mut Outbox, now: Instant) {
        let Some(&(id, _)) = batch.first() else { return };
        let Some(flow) = self.flows.get_mut(id) else {
            // It made room for another one of the same batch.
            let parcels = batch.iter().map(|(_, at)| &self.parcels[*at]);
            let all = parcels.map(|(range, size)| Amount::of(range.len(), *size)).sum();
            return self.lose(Loss::Flows, all);
        };
        flow.seen = now;
        outbox.clear();
        for (_, at) in batch {
            let (range, size) = self.parcels[*at].clone();
            outbox.push(id.0, None, range, size, flow.ceilings.to_task);
        }
        let mut failed = Amount::default();
        let stopped = flow.send(outbox, bytes, 0, &mut failed);
        // Parcels that were too large have become more, but what they hold is the same.
        let all = outbox.rest(0);
        let rest = stopped.map_or(Amount::default(), |(at, _)| outbox.rest(at));
        match stopped {
            None => {}
            Some((_, Stop::Full)) => self.lose(Loss::Full, rest),
            Some((_, Stop::Refused)) => {
                self.lose(Loss::Refused, rest);
                self.refused(id);
            }
        }
        self.lose(Loss::Failed, failed);
        self.counters().to_tasks.add(all - rest - failed);
    }

    /// Fails where the number is taken. A flow that cannot be had is refused.
    fn open(&mut self, number: u32, wanted: &Wanted, resumed: bool, now: Instant) -> Result<(), Unread> {
        if self.flows.find(&number).is_some() {
            return Err(Unread::Twice);
        }
        match self.begin(number, wanted, resumed, now) {
            Ok(()) => tick(&self.counters().begun),
            Err(answer) => {
                tick(&self.counters().refused);
                self.queue.refused(number, answer);
            }
        }
        Ok(())
    }

    fn begin(&mut self, number: u32, wanted: &Wanted, resumed: bool, now: Instant) -> Result<(), Answer> {
        if !self.members.are_for_a_node() {
            return Err(Answer::Stranger);
        }
        let tag = wanted.member;
        let found = self.members.find(tag).ok_or(Answer::Gone)?;
        if found.avoided && !resumed {
            return Err(Answer::Draining);
        }
        let opened = self.flows.make_room(
            &self.shared.census,
            wanted.client.ip(),
            || Towards::task(&self.shared.ways, found.address, wanted.client),
            |flow| {
                tick(&self.shared.for_nodes.evicted);
                self.queue.close(flow.key);
            },
        );
        let (seat, towards) = opened.map_err(|loss| match loss {
            Loss::Source => Answer::Crowded,
            Loss::Refused => Answer::Unreachable,
            _ => Answer::Exhausted,
        })?;
        let held = (self.members.count(tag), Present::of(&self.shared.trunks.flows));
        let flow = Flow::new(number, (tag, 0), towards, Some(Box::new(held)), seat, now);
        let id = self.flows.insert(flow);
        let heard = match self.flows.get(id).map(|flow| &flow.towards) {
            Some(Towards::Task(socket)) => self.answers.add(std::os::fd::AsFd::as_fd(socket), id),
            _ => Ok(()),
        };
        if heard.is_err() {
            self.flows.remove(id);
            return Err(Answer::Exhausted);
        }
        Ok(())
    }

    /// Carries what the flows' sockets have, of each so much; true: there may be more.
    fn outward(&mut self, news: &News) -> bool {
        let Desk { inbox, .. } = &mut *self.worker.desk.borrow_mut();
        let mut events = [EpollEvent::empty(); SLOTS];
        let events = news.come(&mut events);
        let now = Instant::now();
        let mut more = events.len() == SLOTS;
        for event in events {
            let id = FlowId(event.data());
            match self.collect(id, inbox, now) {
                Ok(count) => more |= count == TURN,
                Err(error) if Fault::of(&error, false) == Fault::Refused => {
                    // What the task had answered before lies there still.
                    let _ = self.collect(id, inbox, now);
                    self.refused(id);
                }
                // Nothing after all, or an error that reading has cleared.
                Err(_) => {}
            }
        }
        more
    }

    /// Takes answers of one flow to its node.
    fn collect(&mut self, id: FlowId, inbox: &mut Inbox, now: Instant) -> io::Result<usize> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Ok(0);
        };
        let count = flow.towards.receive(inbox, 0, TURN)?;
        if count > 0 {
            flow.note_answered(now);
        }
        let number = flow.key;
        for slot in 0..count {
            let (arrived, content) = (inbox.arrived(slot), &inbox.bytes()[inbox.range(slot)]);
            let pieces = std::iter::once(content);
            let put = (content.len() <= TOGETHER).then(|| {
                self.queue
                    .datagrams(number, None, arrived.segment, content.len(), pieces)
            });
            match put {
                Some(Ok(())) => self.counters().to_clients.add(arrived.amount()),
                Some(Err(_full)) => self.lose(Loss::Congested, arrived.amount()),
                None => self.lose(Loss::Failed, arrived.amount()),
            }
        }
        Ok(count)
    }

    /// A task has refused something, and its flow ends: its node asks another one, or tells the client.
    fn refused(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(id) {
            tick(&self.counters().refused);
            self.queue.refused(flow.key, Answer::Refused);
        }
    }

    /// Ends flows that were silent for too long, and those whose task is gone.
    fn sweep(&mut self, now: Instant) {
        let (shared, queue, members) = (&self.shared, self.queue, &self.members);
        let counters = &shared.for_nodes;
        // The next datagram comes to the other agent.
        let idle = self.has_left.then_some(LINGER);
        self.flows.sweep(|flow| {
            if members.find(flow.tag).is_none() {
                tick(&counters.gone);
                queue.refused(flow.key, Answer::Gone);
                return true;
            }
            let is_over = flow.is_over(idle, &shared.bounds, now);
            if is_over {
                tick(&counters.idle);
                queue.close(flow.key);
            }
            is_over
        });
        if self.flows.is_empty() {
            self.answers.close();
        }
    }

    fn counters(&self) -> &Counters {
        &self.shared.for_nodes
    }

    fn lose(&self, loss: Loss, amount: Amount) {
        self.counters().lose(loss, amount);
    }
}
