//! One frontend's socket on one worker, and the flows of its clients.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::MissedTickBehavior;

use super::answers::{Answers, readable};
use super::counters::tick;
use super::flows::{Flow, FlowId, Flows};
use super::refusers::Refusers;
use super::towards::Towards;
use super::trunk::{Mail, Mailbox};
use super::{Choose, Counters, Prospect, Worker, towards};
use crate::plane::proxy::news::settle;

/// A flow that was left by its client to another agent has answers for so long after the last one.
pub const LINGER: Duration = Duration::from_secs(5);

/// Carries what clients send to `socket`, and what tasks answer, until it is dropped. Of the front there is none while nobody
/// is to be served there. To be run on the worker's own thread; fails where the socket cannot be used.
pub async fn serve<C: Choose, F: Fn() -> Option<C>>(
    socket: Rc<UdpSocket>,
    front: F,
    worker: Rc<Worker>,
) -> io::Result<()> {
    let address = socket.local_addr()?;
    towards::prepare(&socket, address)?;
    // SAFETY: it owns its descriptor, and nobody replaces it.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? };
    let socket = Rc::new(socket);
    let bounds = worker.shared.bounds;
    let mut sweep = tokio::time::interval(sweep_period(&bounds));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retired = worker.retired.subscribe();
    let mailbox = Rc::new(Mailbox::default());
    let mut carrier = Carrier {
        port: address.port(),
        socket: Rc::clone(&socket),
        answers: Answers::default(),
        mailbox: Rc::clone(&mailbox),
        mail: Mail::default(),
        front,
        flows: Flows::default(),
        refusers: Refusers::default(),
        counters: Arc::clone(&worker.shared.counters),
        worker,
    };
    loop {
        let is_retired = *retired.borrow_and_update();
        if is_retired && carrier.flows.is_empty() {
            return Ok(());
        }
        let answers = carrier.answers.handle();
        let more = tokio::select! {
            // The worker is there as long as its sockets: it does not end without a word.
            Ok(()) = retired.changed() => false,
            ready = socket.readable(), if !is_retired => {
                let mut ready = ready?;
                let more = carrier.inward();
                settle(&mut ready, more)
            }
            ready = readable(answers.as_deref()) => {
                let mut ready = ready?;
                let more = carrier.outward(ready.get_inner());
                settle(&mut ready, more)
            }
            () = mailbox.came() => {
                carrier.open_mail();
                true
            }
            _ = sweep.tick(), if !carrier.flows.is_empty() => {
                carrier.sweep(Instant::now());
                false
            }
        };
        if more {
            // Others of this thread shall have their turn, however many datagrams there are.
            tokio::task::yield_now().await;
        }
    }
}

/// Often enough that no flow outlives its time by much.
pub fn sweep_period(bounds: &super::Bounds) -> Duration {
    let shortest = bounds.idle.min(bounds.hurried);
    (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// Everything of it. Dropping it ends its flows.
pub struct Carrier<F> {
    pub port: u16,
    pub socket: Rc<AsyncFd<Rc<UdpSocket>>>,
    /// Of flows to tasks of this node.
    pub answers: Answers,
    /// Of flows to tasks of other nodes.
    pub mailbox: Rc<Mailbox>,
    pub mail: Mail,
    pub front: F,
    pub flows: Flows,
    pub refusers: Refusers,
    pub worker: Rc<Worker>,
    pub counters: Arc<Counters>,
}

impl<C: Choose, F: Fn() -> Option<C>> Carrier<F> {
    /// Ends flows that were silent for too long, and those whose member is gone.
    fn sweep(&mut self, now: Instant) {
        /// A task's refusal of a datagram comes sooner.
        const REFUSAL: Duration = Duration::from_secs(1);
        /// It is known sooner that a node cannot be reached.
        const UNREACHED: Duration = Duration::from_secs(3);
        let front = (self.front)();
        let shared = &self.worker.shared;
        // The next datagram of the client is another agent's.
        let idle = self.worker.retired.borrow().then_some(LINGER);
        let counters = &self.counters;
        self.flows.sweep(|flow: &mut Flow| {
            let refusal = match flow.towards {
                Towards::Task(_) => REFUSAL,
                Towards::Line(_) => UNREACHED,
            };
            if now.saturating_duration_since(flow.seen) >= refusal {
                flow.forget_only();
            }
            if let Some(front) = front
                .as_ref()
                .filter(|front| front.generation() != flow.generation)
            {
                // Unfit ones have theirs until the next datagram: they may be the only ones.
                match front.prospect(flow.tag) {
                    Prospect::Gone => {
                        tick(&counters.gone);
                        return true;
                    }
                    Prospect::Active | Prospect::Draining => flow.generation = front.generation(),
                    Prospect::Unfit => {}
                }
            }
            let is_over = flow.is_over(idle, &shared.bounds, now);
            if is_over {
                tick(&counters.idle);
            }
            is_over
        });
        if self.flows.is_empty() {
            self.answers.close();
        }
    }

    /// Has this worker told when answers to a flow come. Fails for want of a descriptor or of memory.
    pub fn hear(&mut self, id: FlowId) -> io::Result<()> {
        match self.flows.get_mut(id).map(|flow| &mut flow.towards) {
            Some(Towards::Task(socket)) => self.answers.add(socket.as_fd(), id),
            Some(Towards::Line(line)) => {
                line.hear(&self.mailbox, id);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
