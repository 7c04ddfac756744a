//! A flow's share in a trunk, on the side of its client.

use std::io;
use std::rc::Rc;

use super::Mailbox;
use super::frame::TOGETHER;
use super::trunks::{Connection, Trunk};
use crate::plane::proxy::header::relay_header::Wanted;
use crate::plane::proxy::udp::flows::FlowId;
use crate::plane::proxy::udp::outbox::{Outbox, Stopped};

/// Dropping it ends the flow at the member's node.
pub struct Line {
    trunk: Rc<Trunk>,
    wanted: Wanted,
    /// Whose it is.
    flow: Option<(Rc<Mailbox>, FlowId)>,
    /// The latest connection that it was opened on, and its number there.
    open: Option<(Rc<Connection>, u32)>,
}

impl Line {
    pub(super) fn new(trunk: Rc<Trunk>, wanted: Wanted) -> Self {
        Self {
            trunk,
            wanted,
            flow: None,
            open: None,
        }
    }

    /// Has answers brought there.
    pub fn hear(&mut self, mailbox: &Rc<Mailbox>, flow: FlowId) {
        self.flow = Some((Rc::clone(mailbox), flow));
    }

    /// As `Outbox::send`.
    pub fn send(&mut self, outbox: &Outbox, bytes: &[u8], from: usize) -> Option<Stopped> {
        for at in from..outbox.len() {
            let length = outbox.amount(at).bytes as usize;
            if let Err(error) = self.put(outbox.segment(at), length, outbox.pieces(at, bytes)) {
                return Some(Stopped { at, error });
            }
        }
        None
    }

    /// Sends one datagram.
    pub fn post(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.put(None, datagram.len(), [datagram].into_iter())
    }

    fn put<'p>(
        &mut self,
        size: Option<u16>,
        length: usize,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> io::Result<()> {
        if length > TOGETHER {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let connection = self.trunk.wanted()?;
        let known = (self.open.as_ref())
            .filter(|(open, _)| Rc::ptr_eq(open, &connection))
            .map(|(_, number)| *number);
        let opening = known.is_none().then_some((&self.wanted, self.open.is_some()));
        let number = known.unwrap_or_else(|| connection.number());
        let put = connection
            .queue()
            .datagrams(number, opening, size, length, pieces);
        put.map_err(|_full| io::Error::from_raw_os_error(libc::ENOBUFS))?;
        if known.is_none()
            && let Some((mailbox, flow)) = &self.flow
        {
            connection.lead(number, Rc::clone(mailbox), *flow);
            // What the one before still has of the flow comes as long as that connection is there.
            self.open = Some((connection, number));
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((connection, number)) = &self.open {
            connection.close(*number);
        }
    }
}
