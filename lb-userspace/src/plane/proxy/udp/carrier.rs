//! One frontend's socket on one worker, and the flows of its clients.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::time::MissedTickBehavior;

use super::counters::tick;
use super::flows::{Flow, FlowId, Flows};
use super::place::Refusers;
use super::{Choose, Counters, Standing, Worker, towards};

/// A flow that was left by its client to another agent has answers for so long after the last one.
const LINGER: Duration = Duration::from_secs(5);

/// Carries what clients send to `socket`, and what tasks answer, until it is dropped. Of the front there is none while nobody
/// is to be served there. To be run on the worker's own thread; fails where the socket cannot be used.
pub async fn serve<C: Choose, F: Fn() -> Option<C>>(
    socket: Rc<UdpSocket>,
    front: F,
    worker: Rc<Worker>,
    counters: Arc<Counters>,
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
    let mut carrier = Carrier {
        port: address.port(),
        socket: Rc::clone(&socket),
        answers: None,
        front,
        flows: Flows::default(),
        refusers: Refusers::default(),
        worker,
        counters,
    };
    loop {
        let is_retired = *retired.borrow_and_update();
        if is_retired && carrier.flows.is_empty() {
            return Ok(());
        }
        let answers = carrier.answers.clone();
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
fn sweep_period(bounds: &super::Bounds) -> Duration {
    let shortest = bounds.idle.min(bounds.hurried);
    (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// Waits for the next news if there is no more for now.
fn settle<T: AsRawFd>(ready: &mut AsyncFdReadyGuard<'_, T>, more: bool) -> bool {
    if !more {
        ready.clear_ready();
    }
    more
}

async fn readable(answers: Option<&AsyncFd<Answers>>) -> io::Result<AsyncFdReadyGuard<'_, Answers>> {
    match answers {
        Some(answers) => answers.readable().await,
        None => std::future::pending().await,
    }
}

/// Everything of it. Dropping it ends its flows.
pub struct Carrier<F> {
    pub port: u16,
    pub socket: Rc<AsyncFd<Rc<UdpSocket>>>,
    /// There while there are flows: a frontend that nobody asks takes one descriptor.
    pub answers: Option<Rc<AsyncFd<Answers>>>,
    pub front: F,
    pub flows: Flows,
    pub refusers: Refusers,
    pub worker: Rc<Worker>,
    pub counters: Arc<Counters>,
}

impl<C: Choose, F: Fn() -> Option<C>> Carrier<F> {
    /// Ends flows that were silent for too long, and those whose member is gone.
    fn sweep(&mut self, now: Instant) {
        /// A refusal of a datagram comes sooner.
        const REFUSAL: Duration = Duration::from_secs(1);
        let front = (self.front)();
        let shared = &self.worker.shared;
        let idle = front.as_ref().and_then(Choose::idle);
        let idle = match *self.worker.retired.borrow() {
            // The next datagram of the client is another agent's.
            true => LINGER,
            false => idle.unwrap_or(shared.bounds.idle),
        };
        let hurried = shared.bounds.hurried.min(idle);
        let counters = &self.counters;
        self.flows.sweep(|flow: &mut Flow| {
            let silent = now.saturating_duration_since(flow.seen);
            if silent >= REFUSAL {
                flow.forget_only();
            }
            if let Some(front) = front
                .as_ref()
                .filter(|front| front.generation() != flow.generation)
            {
                // Unfit ones have theirs until the next datagram: they may be the only ones.
                match front.standing(flow.tag) {
                    Standing::Gone => {
                        tick(&counters.gone);
                        return true;
                    }
                    Standing::Active | Standing::Draining => flow.generation = front.generation(),
                    Standing::Unfit => {}
                }
            }
            let is_over =
                silent >= idle || (silent >= hurried && shared.census.is_crowded(flow.key.client.ip()));
            if is_over {
                tick(&counters.idle);
            }
            is_over
        });
        if self.flows.is_empty() {
            self.answers = None;
        }
    }

    /// Has this worker told when answers to a flow come. Fails for want of a descriptor or of memory.
    pub fn hear(&mut self, id: FlowId) -> io::Result<()> {
        let answers = match &self.answers {
            Some(answers) => answers,
            None => {
                let answers = Answers::new()?;
                // SAFETY: as of the socket.
                let answers = unsafe { AsyncFd::register_with_interest(answers, Interest::READABLE)? };
                &*self.answers.insert(Rc::new(answers))
            }
        };
        match self.flows.get(id) {
            Some(flow) => answers.get_ref().add(flow, id),
            None => Ok(()),
        }
    }
}

/// Of all flows of a socket, those that have something to read: an epoll in the runtime's. A flow's socket leaves it when it is
/// closed.
pub struct Answers(Epoll);

impl Answers {
    fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    fn add(&self, flow: &Flow, id: FlowId) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id.0);
        Ok(self.0.add(flow.towards.answers(), event)?)
    }

    /// Those that have something to read now; does not wait.
    pub fn ready<'e>(&self, events: &'e mut [EpollEvent]) -> &'e [EpollEvent] {
        // It can only fail by an interruption, and there is another time.
        let count = self.0.wait(events, EpollTimeout::ZERO).unwrap_or(0);
        &events[..count]
    }
}

impl AsRawFd for Answers {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}
