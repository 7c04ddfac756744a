//! The connections of one worker: what the kernel tells of their sockets gives each its turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use slab::Slab;
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::carry::{Broken, Exchange, Moved, Side, Turn};
use crate::plane::proxy::news::{News, settle};
use crate::plane::proxy::socket::cut_off;

/// News taken at a time: timers, new clients and datagrams of this thread wait meanwhile.
const NEWS: usize = 128;

/// All of them.
pub struct Carrier {
    news: AsyncFd<News>,
    seats: RefCell<Slab<Seat>>,
    /// Whose turn it is.
    going: RefCell<Vec<usize>>,
    /// Connections so far.
    count: Cell<u32>,
}

/// What a socket's news are named by.
#[derive(Clone, Copy)]
struct Name {
    key: usize,
    /// Keys are used again, and a program that is being started has its parent's sockets for a moment: they are told of that long.
    number: u32,
    is_client: bool,
}

impl Name {
    const fn bits(self) -> u64 {
        (self.number as u64) << 32 | (self.key as u64) << 1 | self.is_client as u64
    }

    const fn of(bits: u64) -> Self {
        Self {
            key: (bits as u32 >> 1) as usize,
            number: (bits >> 32) as u32,
            is_client: bits & 1 != 0,
        }
    }
}

/// One connection.
struct Seat {
    number: u32,
    /// It has its turn, or goes on without news.
    is_going: bool,
    task: Side,
    /// Once there is a client for it.
    exchange: Option<Exchange>,
    /// Once it is over.
    outcome: Option<Result<(), Broken>>,
    /// Of whoever waits for it.
    waker: Option<Waker>,
}

impl Carrier {
    /// Takes its news from `news`, which is its own.
    pub fn new(news: AsyncFd<News>) -> Rc<Self> {
        Rc::new(Self {
            news,
            seats: RefCell::default(),
            going: RefCell::default(),
            count: Cell::default(),
        })
    }

    /// Gives connections their turns until it is dropped. To be run once; nothing is carried without it. Fails only with the runtime.
    pub async fn run(self: Rc<Self>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); NEWS];
        loop {
            let mut ready = self.news.readable().await?;
            let more = self.turn(&mut events);
            if settle(&mut ready, more) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// True: there is more to do at once.
    fn turn(&self, events: &mut [EpollEvent]) -> bool {
        let mut seats = self.seats.borrow_mut();
        let mut going = self.going.borrow_mut();
        let events = self.news.get_ref().come(events);
        for event in events {
            let name = Name::of(event.data());
            if let Some(seat) = seats.get_mut(name.key)
                && seat.number == name.number
            {
                seat.hear(name.is_client, event.events());
                if !mem::replace(&mut seat.is_going, true) {
                    going.push(name.key);
                }
            }
        }
        going.retain(|&key| {
            // One that has left meanwhile may have left its key to another, which does not mind.
            let seat = seats.get_mut(key);
            seat.is_some_and(|seat| {
                seat.is_going = seat.turn();
                seat.is_going
            })
        });
        events.len() == NEWS || !going.is_empty()
    }

    /// Connects to a task by `socket`, which does not block.
    pub async fn connect(self: &Rc<Self>, socket: Socket, task: SocketAddr) -> io::Result<Reached> {
        match socket.connect(&task.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let number = self.count.get();
        self.count.set(number.wrapping_add(1));
        let seat = Seat::new(number, Side::new(socket.into()));
        let reached = Reached {
            key: self.seats.borrow_mut().insert(seat),
            carrier: Rc::clone(self),
        };
        reached.with(|seat| reached.tell_of(seat.number, &seat.task, false))?;
        poll_fn(|cx| reached.with(|seat| seat.poll_connected(cx))).await?;
        Ok(reached)
    }
}

impl Seat {
    const fn new(number: u32, task: Side) -> Self {
        Self {
            number,
            is_going: false,
            task,
            exchange: None,
            outcome: None,
            waker: None,
        }
    }

    fn hear(&mut self, is_client: bool, news: EpollFlags) {
        match &mut self.exchange {
            Some(exchange) if is_client => exchange.client.hear(news),
            _ => self.task.hear(news),
        }
    }

    /// True: it goes on, and no news will come of that.
    fn turn(&mut self) -> bool {
        if self.outcome.is_some() {
            return false;
        }
        if let Some(exchange) = &mut self.exchange {
            self.outcome = match exchange.turn(&mut self.task) {
                Ok(Turn::Rests) => return false,
                Ok(Turn::GoesOn) => return true,
                Ok(Turn::Over) => Some(Ok(())),
                Err(broken) => Some(Err(broken)),
            };
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        false
    }

    fn poll_connected(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.task.is_decided() {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match self.task.socket().take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        })
    }

    fn poll_over(&mut self, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        match self.outcome.take() {
            Some(Ok(())) => {
                self.outcome = Some(Ok(()));
                Poll::Ready(Ok(()))
            }
            Some(broken) => Poll::Ready(broken),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A connection to a task of this node. Unless it has been carried to a good end both sides are reset when it is dropped.
pub struct Reached {
    carrier: Rc<Carrier>,
    key: usize,
}

impl Reached {
    /// Tells the task something before its client does; an empty buffer takes it whole.
    pub fn say(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.with(|seat| seat.task.send(bytes, 0))?;
        if sent < bytes.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Carries between the client and the task until each has said all, or one is broken.
    pub async fn carry(&self, client: TcpStream) -> Result<(), Broken> {
        self.with(|seat| {
            let exchange = seat.exchange.insert(Exchange::new(Side::new(client)));
            // There is always something to tell of it at first: it has its turn.
            self.tell_of(seat.number, &exchange.client, true)
        })
        .map_err(Broken::Here)?;
        poll_fn(|cx| self.with(|seat| seat.poll_over(cx))).await
    }

    /// So far.
    pub fn moved(&self) -> Moved {
        self.with(|seat| seat.exchange.as_ref().map(Exchange::moved).unwrap_or_default())
    }

    /// Has news of one of its sides told from now on.
    fn tell_of(&self, number: u32, side: &Side, is_client: bool) -> io::Result<()> {
        let name = Name {
            key: self.key,
            number,
            is_client,
        };
        let news = self.carrier.news.get_ref();
        news.add(side.socket(), Side::NEWS, name.bits())
    }

    /// It has its place as long as this is.
    fn with<T>(&self, of: impl FnOnce(&mut Seat) -> T) -> T {
        of(&mut self.carrier.seats.borrow_mut()[self.key])
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        let seat = self.carrier.seats.borrow_mut().remove(self.key);
        if !matches!(seat.outcome, Some(Ok(()))) {
            cut_off(seat.task.socket());
            if let Some(exchange) = &seat.exchange {
                cut_off(exchange.client.socket());
            }
        }
    }
}
