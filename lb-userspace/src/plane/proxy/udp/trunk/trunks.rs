//! A worker's connections to other nodes: made when a flow has something to say, made again when they break, ended when no
//! flow is left.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::frame::{self, Frame, Unread};
use super::pump::{Link, Pump};
use super::queue::Queue;
use super::{Call, Letter, Line, Mailbox};
use crate::model::Node;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::relay_header::Wanted;
use crate::plane::proxy::udp::Shared;
use crate::plane::proxy::udp::counters::{Amount, Loss};
use crate::plane::proxy::udp::flows::FlowId;
use crate::present::Present;

/// After a connection could not be made, or did not live as long, none is tried for such a time; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection without flows ends after such a time, or twice that.
const UNUSED: Duration = Duration::from_secs(8);

/// Those of one worker.
pub struct Trunks {
    call: Rc<dyn Call>,
    shared: Arc<Shared>,
    trunks: RefCell<Vec<Rc<Trunk>>>,
}

/// The way to one node.
pub struct Trunk {
    node: Node,
    call: Rc<dyn Call>,
    shared: Arc<Shared>,
    state: RefCell<State>,
}

enum State {
    /// Nobody wants any.
    Unwanted,
    /// There is one, or it is being made.
    Wanted(Rc<Connection>),
    /// None until then; how long the next time.
    Paused { until: Instant, next: Duration },
}

/// One connection. Its flows are told apart by numbers of its own.
#[derive(Default)]
pub struct Connection {
    queue: Queue,
    last: Cell<u32>,
    flows: RefCell<HashMap<u32, (Rc<Mailbox>, FlowId)>>,
}

impl Trunks {
    pub fn new(call: Rc<dyn Call>, shared: &Arc<Shared>) -> Self {
        Self {
            call,
            shared: Arc::clone(shared),
            trunks: RefCell::default(),
        }
    }

    /// For a flow to a member of `node`. Fails where that could not be reached lately.
    pub fn line(&self, node: &Node, wanted: Wanted) -> io::Result<Line> {
        let mut trunks = self.trunks.borrow_mut();
        let is_it = |trunk: &&Rc<Trunk>| trunk.node.name == node.name && trunk.node.address == node.address;
        if let Some(trunk) = trunks.iter().find(is_it) {
            trunk.is_to_be_had()?;
            return Ok(Line::new(Rc::clone(trunk), wanted));
        }
        // Of nodes that were there once.
        trunks.retain(|trunk| {
            Rc::strong_count(trunk) > 1 || matches!(*trunk.state.borrow(), State::Paused { .. })
        });
        let trunk = Rc::new(Trunk {
            node: node.clone(),
            call: Rc::clone(&self.call),
            shared: Arc::clone(&self.shared),
            state: RefCell::new(State::Unwanted),
        });
        trunks.push(Rc::clone(&trunk));
        Ok(Line::new(trunk, wanted))
    }
}

impl Trunk {
    /// Has a connection made if there is none, and says which one it is. Does not wait. Fails where the node could not be
    /// reached lately.
    pub fn wanted(self: &Rc<Self>) -> io::Result<Rc<Connection>> {
        self.is_to_be_had()?;
        let mut state = self.state.borrow_mut();
        let pause = match &*state {
            State::Wanted(connection) => return Ok(Rc::clone(connection)),
            State::Unwanted => PAUSE,
            State::Paused { next, .. } => *next,
        };
        let connection = Rc::new(Connection::default());
        *state = State::Wanted(Rc::clone(&connection));
        tokio::task::spawn_local(Rc::clone(self).run(Rc::clone(&connection), pause));
        Ok(connection)
    }

    fn is_to_be_had(&self) -> io::Result<()> {
        match *self.state.borrow() {
            State::Paused { until, .. } if Instant::now() < until => {
                Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH))
            }
            _ => Ok(()),
        }
    }

    /// One connection, from its making to its end. `pause`: for what if it is not to be had.
    async fn run(self: Rc<Self>, connection: Rc<Connection>, pause: Duration) {
        let figures = &self.shared.trunks;
        match self.call.call(&self.node).await {
            Ok(link) => {
                let (since, _open) = (Instant::now(), Present::of(&figures.open));
                if let Some(why) = self.carry(&connection, link).await
                    && self.is_current(&connection)
                {
                    tracing::debug!(node = %self.node.name, "a connection for datagrams broke: {why}");
                    if !connection.flows.borrow().is_empty() {
                        figures.broken.fetch_add(1, Relaxed);
                    }
                    // Flows are opened again over the next one, with what they have to say next.
                    let is_young = since.elapsed() < LONGEST_PAUSE;
                    self.part(&connection, if is_young { pause } else { Duration::ZERO });
                }
                connection.flows.take();
            }
            Err(error) => {
                tracing::debug!(node = %self.node.name, %error, "no connection for datagrams");
                figures.unreached.fetch_add(1, Relaxed);
                self.part(&connection, pause);
                for (mailbox, flow) in connection.flows.take().into_values() {
                    mailbox.last(flow, Letter::Refused);
                }
            }
        }
        let datagrams = connection.queue.clear();
        let lost = Amount { datagrams, bytes: 0 };
        self.shared.counters.lose(Loss::Broken, lost);
    }

    /// Until it breaks, and why; nothing: no flow is left.
    async fn carry<S: Link>(&self, connection: &Connection, link: S) -> Option<String> {
        let mut pump = Pump::new(link);
        let mut looks = tokio::time::interval(UNUSED);
        let mut was_used = true;
        loop {
            let turn = tokio::select! {
                turn = pump.turn(&connection.queue) => turn,
                _ = looks.tick() => {
                    let is_used = !connection.flows.borrow().is_empty() || !connection.queue.is_empty();
                    if !is_used && !was_used {
                        self.part(connection, Duration::ZERO);
                        let _ = pump.end().await;
                        return None;
                    }
                    was_used = is_used;
                    continue;
                }
            };
            match turn {
                Ok(true) => {}
                Ok(false) => return Some("the other node has ended it".into()),
                Err(error) => return Some(error.to_string()),
            }
            match self.deliver(connection, pump.arrived()) {
                Ok(done) => pump.consume(done),
                Err(unread) => return Some(unread.to_string()),
            }
            // Those who take it shall have their turn before there is more.
            tokio::task::yield_now().await;
        }
    }

    /// Hands over what is whole; returns how much that was.
    fn deliver(&self, connection: &Connection, bytes: &[u8]) -> Result<usize, Unread> {
        let mut done = 0;
        while let Some((number, frame, length)) = frame::read(&bytes[done..])? {
            done += length;
            let (content, size) = match frame {
                Frame::Datagram(content) => (content, None),
                Frame::Datagrams { size, content } => (content, Some(size)),
                Frame::Refused(answer) => {
                    tracing::debug!(node = %self.node.name, "a flow is refused: {answer}");
                    let letter = match answer {
                        Answer::Crowded => Letter::Crowded,
                        _ => Letter::Refused,
                    };
                    self.last(connection, number, letter);
                    continue;
                }
                Frame::Close => {
                    self.last(connection, number, Letter::Closed);
                    continue;
                }
                Frame::Leave => {
                    self.part(connection, Duration::ZERO);
                    continue;
                }
                Frame::Open(_) | Frame::Resume(_) => return Err(Unread::Direction),
            };
            if let Err(loss) = connection.answers(number, content, size) {
                let lost = Amount::of(content.len(), size);
                self.shared.counters.lose(loss, lost);
            }
        }
        Ok(done)
    }

    /// The other node has ended a flow. Of a connection that was left it ends there alone.
    fn last(&self, connection: &Connection, number: u32, letter: Letter) {
        let known = connection.flows.borrow_mut().remove(&number);
        if let Some((mailbox, flow)) = known
            && self.is_current(connection)
        {
            mailbox.last(flow, letter);
        }
    }

    fn is_current(&self, connection: &Connection) -> bool {
        matches!(&*self.state.borrow(), State::Wanted(current) if std::ptr::eq(&**current, connection))
    }

    /// Nothing more is given to this connection, nor to another one for some time.
    fn part(&self, connection: &Connection, pause: Duration) {
        if self.is_current(connection) {
            let state = match pause {
                Duration::ZERO => State::Unwanted,
                pause => State::Paused {
                    until: Instant::now() + pause,
                    next: (2 * pause).min(LONGEST_PAUSE),
                },
            };
            self.state.replace(state);
        }
    }
}

impl Connection {
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// One that no flow has.
    pub fn number(&self) -> u32 {
        let flows = self.flows.borrow();
        let mut number = self.last.get().wrapping_add(1);
        while flows.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        self.last.set(number);
        number
    }

    /// Brings what comes by a number there.
    pub fn lead(&self, number: u32, mailbox: Rc<Mailbox>, flow: FlowId) {
        self.flows.borrow_mut().insert(number, (mailbox, flow));
    }

    /// The flow has ended on this side.
    pub fn close(&self, number: u32) {
        // Where the other side has ended it, or the connection has gone, nobody has to be told.
        if self.flows.borrow_mut().remove(&number).is_some() {
            self.queue.close(number);
        }
    }

    fn answers(&self, number: u32, content: &[u8], size: Option<u16>) -> Result<(), Loss> {
        match self.flows.borrow().get(&number) {
            Some((mailbox, flow)) if mailbox.answers(*flow, content, size) => Ok(()),
            Some(_) => Err(Loss::Full),
            None => Err(Loss::Closed),
        }
    }
}
