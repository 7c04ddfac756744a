//! From one agent to the next on the same machine, while both run: the sockets that clients find are handed over open, so none
//! is refused; established connections stay with the agent that has them until they are done. `docs/restarts.md` describes
//! it.
//!
//! ```text
//! the new one                      the one before
//!   take_over ──────────────────────>
//!             <── sockets … before … all      it serves as ever
//!   have      ──────────────────────>         from here on it accepts nobody, and decides nothing
//!             <────────────────────── over    its ports are free
//!   serving   ──────────────────────>         it lets its own handles go
//!             <────────────────────── flows   as long as it has connections
//!   end       ──────────────────────>         those whose task is gone
//!             <────────────────────── cut     it has ended
//! ```
//! Until `have` nothing has happened: a successor that is not there any more is forgotten. After it the one before keeps
//! handles of all sockets until it hears `serving`: if its successor dies, the next one gets them again. If the one before
//! dies, its successor has what was sent.

mod channel;
mod give;
mod rest;
mod take;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use channel::Listener;
pub use give::{Given, Lent, give};
pub use rest::Rest;
pub use take::{Failure, Predecessor, Taken, take};

/// Of the words. Another version's agents do not understand each other.
const VERSION: u32 = 1;
/// For one word of the other side that has nothing to wait for.
const ANSWER: Duration = Duration::from_secs(10);
/// For the one before to end everything but its connections: more than [`crate::app`] gives it.
const LETTING_GO: Duration = Duration::from_secs(20);
/// Between two counts of the connections that the one before still has.
const COUNT: Duration = Duration::from_millis(250);
