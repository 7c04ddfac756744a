//! Bytes between the TLS of another node and a socket of this one, both ways, until both have said all.
//!
//! An end (close_notify there, FIN here) is passed on after everything before it, and the other way goes on. A reset, or a TCP
//! connection that ends without close_notify, becomes a reset of the other side: nobody takes half an answer for a whole one. What a
//! task has said before its reset arrives before that.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::{client, server};

use super::wire::{Wire, broken, unannounced};
use crate::plane::proxy::socket::{attempt, cut_off};

/// Read from a socket at a time: two records of TLS.
const PORTION: usize = 32 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; PORTION].into());
}

/// Who ended a connection before it was through.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    #[error("the other node: {0}")]
    Node(io::Error),
    #[error("this side: {0}")]
    Near(io::Error),
}

/// The other node, by TLS whose either side this is.
pub trait Node: AsyncBufRead + AsyncWrite + Unpin {
    /// It has the client, and the near side is the task: whatever became of that since, all that it has said is worth having.
    const HAS_CLIENT: bool;

    fn wire(&self) -> Wire;
}

impl Node for client::TlsStream<Wire> {
    const HAS_CLIENT: bool = false;

    fn wire(&self) -> Wire {
        self.get_ref().0.clone()
    }
}

impl Node for server::TlsStream<Wire> {
    const HAS_CLIENT: bool = true;

    fn wire(&self) -> Wire {
        self.get_ref().0.clone()
    }
}

/// What has gone through a connection so far, in bytes.
#[derive(Debug, Default)]
pub struct Passed {
    pub from_node: AtomicU64,
    pub to_node: AtomicU64,
}

/// Carries to the end. Where it is not a good one, both sides are reset when they are dropped. `near` is the task, or the client,
/// whichever is connected to this node.
pub async fn carry(node: &mut impl Node, near: &TcpStream, moved: &Passed) -> Result<(), Breach> {
    let wire = node.wire();
    let mut carrying = Carrying {
        node,
        near,
        said: false,
        held: Bytes::new(),
        lost: None,
        ended: [false; 2],
        moved,
    };
    let (mut node_broken, mut near_broken) = (pin!(wire.clone().broken()), pin!(broken(near)));
    let outcome = poll_fn(|cx| {
        // What arrived before a reset is read before it.
        let carried = carrying.poll(cx);
        if carried.is_ready() {
            return carried;
        }
        if node_broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Breach::Node(ErrorKind::ConnectionReset.into())));
        }
        if carrying.is_heard_out() {
            ready!(near_broken.as_mut().poll(cx));
            return Poll::Ready(Err(Breach::Near(ErrorKind::ConnectionReset.into())));
        }
        Poll::Pending
    })
    .await;
    if let Err(breach) = &outcome {
        // Else the missing close_notify tells of it, behind all that is still on its way.
        if matches!(breach, Breach::Node(_)) || carrying.is_heard_out() {
            wire.cut_off();
        }
        cut_off(near);
    }
    outcome
}

struct Carrying<'a, N> {
    node: &'a mut N,
    near: &'a TcpStream,
    /// The near side has said all.
    said: bool,
    /// Of what it has said, what TLS could not take yet.
    held: Bytes,
    /// It is broken, and there is nothing more to read.
    lost: Option<io::Error>,
    /// To the near side, to the other node.
    ended: [bool; 2],
    moved: &'a Passed,
}

impl<N: Node> Carrying<'_, N> {
    /// The near side has nothing more to say that the other node should have: a reset counts at once. Else reading tells of it.
    const fn is_heard_out(&self) -> bool {
        !N::HAS_CLIENT || self.ended[1]
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Breach>> {
        // Whoever does not hear the other side out may have said something all the same, as servers refuse what is too large.
        if !self.ended[0] {
            let told = self.tell_near(cx);
            if let Poll::Ready(Err(Breach::Near(_))) = told {
                self.last_words(cx);
            }
            self.ended[0] = told?.is_ready();
        }
        if !self.ended[1] {
            let told = self.tell_node(cx);
            if let Poll::Ready(Err(Breach::Node(_))) = told
                && !self.ended[0]
            {
                // It is broken whatever comes of that.
                let _ = at_once(cx, |cx| self.tell_near(cx));
            }
            self.ended[1] = told?.is_ready();
        }
        if self.ended == [true; 2] {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when the end has been passed on.
    fn tell_near(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Breach>> {
        loop {
            let bytes = ready!(Pin::new(&mut *self.node).poll_fill_buf(cx)).map_err(Breach::Node)?;
            if bytes.is_empty() {
                // One that is gone meanwhile is told of by its own way.
                let _ = SockRef::from(self.near).shutdown(Shutdown::Write);
                return Poll::Ready(Ok(()));
            }
            ready!(self.near.poll_write_ready(cx)).map_err(Breach::Near)?;
            if let Some(sent) = attempt(|| self.near.try_write(bytes)).map_err(Breach::Near)? {
                Pin::new(&mut *self.node).consume(sent);
                self.moved.from_node.fetch_add(sent as u64, Ordering::Relaxed);
            }
        }
    }

    /// As [`tell_near`](Self::tell_near).
    fn tell_node(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Breach>> {
        loop {
            if !self.held.is_empty() {
                let node = Pin::new(&mut *self.node);
                let sent = ready!(node.poll_write(cx, &self.held)).map_err(Breach::Node)?;
                self.held.advance(sent);
                self.moved.to_node.fetch_add(sent as u64, Ordering::Relaxed);
                continue;
            }
            if self.said {
                return Pin::new(&mut *self.node).poll_shutdown(cx).map_err(Breach::Node);
            }
            // What TLS has taken and the wire has not.
            if self.lost.is_some() {
                ready!(Pin::new(&mut *self.node).poll_flush(cx)).map_err(Breach::Node)?;
            }
            if let Some(error) = self.lost.take() {
                return Poll::Ready(Err(Breach::Near(error)));
            }
            match self.near.poll_read_ready(cx) {
                Poll::Ready(ready) => ready.map_err(Breach::Near)?,
                Poll::Pending => {
                    if let Poll::Ready(Err(error)) = Pin::new(&mut *self.node).poll_flush(cx) {
                        return Poll::Ready(Err(Breach::Node(error)));
                    }
                    return Poll::Pending;
                }
            }
            match self.portion(cx) {
                Err(Breach::Near(error)) => self.lost = Some(error),
                done => done?,
            }
        }
    }

    /// Reads once and writes once.
    fn portion(&mut self, cx: &mut Context<'_>) -> Result<(), Breach> {
        SHARED.with_borrow_mut(|buffer| {
            let Some(read) = attempt(|| self.near.try_read(buffer)).map_err(Breach::Near)? else {
                return Ok(());
            };
            if read == 0 {
                self.said = true;
                return Ok(());
            }
            let sent = match Pin::new(&mut *self.node).poll_write(cx, &buffer[..read]) {
                Poll::Ready(sent) => sent.map_err(Breach::Node)?,
                Poll::Pending => 0,
            };
            self.moved.to_node.fetch_add(sent as u64, Ordering::Relaxed);
            self.held = Bytes::copy_from_slice(&buffer[sent..read]);
            Ok(())
        })
    }

    /// Passes on what the near side has said that is broken, as far as the other node takes it at once.
    fn last_words(&mut self, cx: &mut Context<'_>) {
        // Nobody is left to tell of an error.
        let _ = at_once(cx, |cx| self.rest(cx));
    }

    fn rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.held.is_empty() {
                let sent = ready!(Pin::new(&mut *self.node).poll_write(cx, &self.held))?;
                self.held.advance(sent);
                self.moved.to_node.fetch_add(sent as u64, Ordering::Relaxed);
            }
            if self.said {
                break;
            }
            self.held = SHARED.with_borrow_mut(|buffer| {
                let read = unannounced(self.near, buffer).unwrap_or(0);
                Bytes::copy_from_slice(&buffer[..read])
            });
            self.said = self.held.is_empty();
        }
        Pin::new(&mut *self.node).poll_flush(cx)
    }
}

/// However much this task has done in its turn: there is no other one.
fn at_once<T>(cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(unconstrained(poll_fn(poll))).poll(cx)
}
