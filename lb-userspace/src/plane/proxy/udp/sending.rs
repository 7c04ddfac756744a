//! Sending what belongs to one flow to its member.

use super::counters::Amount;
use super::fault::Fault;
use super::flows::Flow;
use super::outbox::Outbox;

/// Why the rest was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No room for now.
    Full,
    /// The member refused what was sent earlier, or there is no way to it: of the rest nothing was sent.
    Refused,
}

impl<K> Flow<K> {
    /// Sends from the outbox's parcel numbered `from` on, and says where and why it has stopped before the end. What is not sent
    /// for its own sake is left out and added to `failed`.
    pub fn send(
        &mut self,
        outbox: &mut Outbox,
        bytes: &[u8],
        from: usize,
        failed: &mut Amount,
    ) -> Option<(usize, Stop)> {
        let mut at = from;
        loop {
            let stopped = self.towards.send(outbox, bytes, at)?;
            at = stopped.at;
            let together = outbox.segment(at);
            match Fault::of(&stopped.error, together.is_some()) {
                Fault::Together => {
                    self.ceilings.to_task = together.map_or(0, |size| size - 1);
                    outbox.split(at);
                }
                Fault::One => {
                    *failed += outbox.amount(at);
                    at += 1;
                }
                Fault::Full => return Some((at, Stop::Full)),
                Fault::Refused => return Some((at, Stop::Refused)),
            }
        }
    }
}
