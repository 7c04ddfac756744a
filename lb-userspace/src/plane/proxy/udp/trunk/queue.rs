//! Frames that wait until the connection takes them. So many that it takes them in a moment, and no more: what comes faster
//! is lost, as it would be on a wire.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use super::frame;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::relay_header::Wanted;

/// Bytes that wait with a datagram: a millisecond at 8 Gbit/s. A frame that would lead beyond it is not taken.
pub const MOST: usize = 1 << 20;

/// Of one connection, in one direction.
#[derive(Default)]
pub struct Queue {
    bytes: RefCell<Vec<u8>>,
    /// Of those bytes' datagrams.
    datagrams: Cell<u64>,
    /// Of who takes them out, while it has nothing to do.
    waker: Cell<Option<Waker>>,
}

/// There is no room for now.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    /// Puts a datagram in, or several of `size` bytes each, from pieces of `length` bytes together; before it the opening of its
    /// flow, and whether that is resumed, where it has to be opened.
    pub fn datagrams<'p>(
        &self,
        number: u32,
        opening: Option<(&Wanted, bool)>,
        size: Option<u16>,
        length: usize,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), Full> {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + length > MOST {
            return Err(Full);
        }
        if let Some((wanted, resumed)) = opening {
            frame::write_open(number, wanted, resumed, &mut bytes);
        }
        frame::write_datagrams(number, size, length, pieces, &mut bytes);
        let datagrams = size.map_or(1, |size| length.div_ceil(usize::from(size)));
        self.datagrams.set(self.datagrams.get() + datagrams as u64);
        self.wake();
        Ok(())
    }

    /// Always has room: there is one for each flow.
    pub fn close(&self, number: u32) {
        frame::write_close(number, &mut self.bytes.borrow_mut());
        self.wake();
    }

    /// Once.
    pub fn leave(&self) {
        frame::write_leave(&mut self.bytes.borrow_mut());
        self.wake();
    }

    /// Has room as long as who asks for flows is not listened to while there [is much](Self::is_overfull).
    pub fn refused(&self, number: u32, answer: Answer) {
        frame::write_refused(number, answer, &mut self.bytes.borrow_mut());
        self.wake();
    }

    /// So much waits that the other side shall not cause any more to be said.
    pub fn is_overfull(&self) -> bool {
        self.bytes.borrow().len() > 2 * MOST
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.borrow().is_empty()
    }

    /// Takes everything out, into an empty vector. False: there is nothing yet, and the context is woken when there is.
    pub fn take(&self, context: &Context<'_>, into: &mut Vec<u8>) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() {
            self.waker.set(Some(context.waker().clone()));
            return false;
        }
        std::mem::swap(&mut *bytes, into);
        self.datagrams.set(0);
        true
    }

    /// Throws everything away; returns how many datagrams that was.
    pub fn clear(&self) -> u64 {
        self.bytes.borrow_mut().clear();
        self.datagrams.take()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_taken_and_ends_of_flows_always_are() {
        let queue = Queue::default();
        let large = [0; 60_000];
        let push = || queue.datagrams(1, None, None, large.len(), [&large[..]].into_iter());
        let taken = (0..100).take_while(|_| push().is_ok()).count();
        assert!((16..=17).contains(&taken), "{taken}");
        assert!(!queue.is_overfull());
        queue.close(1);
        assert_eq!(push(), Err(Full));
        let mut out = Vec::new();
        assert!(queue.take(&Context::from_waker(Waker::noop()), &mut out));
        assert_eq!(out.len(), taken * (frame::HEAD + large.len()) + frame::HEAD);
        assert!(push().is_ok() && queue.clear() == 1 && queue.is_empty());
    }
}
