//! The end of sockets that connect() led to a task which is gone. Their peer will never speak again, and without this a
//! process would wait for minutes until its own kernel gives up.
//!
//! Only a task that has left the snapshot ends its sockets: one that drains keeps them.

mod diag;
mod namespaces;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use lb_common::V6;
use lb_common::socket::{SocketKey, Turned};

use super::maps::Table;
use crate::plane::EbpfError;

pub use namespaces::own_cookie;

/// A connect() that was under way when its task left is found by a later look; nobody chooses the task any more.
const LINGER: Duration = Duration::from_secs(3);

/// Sockets to end in one network namespace: the socket's cookie and the port it leads to.
type Doomed = HashMap<u64, [u8; 2]>;

/// Members that left, by tag. One that is somewhere else now has its new address, and sockets that lead there stay.
pub type Departures = HashMap<u64, Option<V6>>;

/// Tasks that left lately.
#[derive(Default)]
pub struct Graves {
    left: Vec<(Instant, Departures)>,
}

impl Graves {
    /// Members that left: their sockets end now, and those found within some seconds.
    pub fn bury(
        &mut self,
        left: Departures,
        sockets: &mut Table<SocketKey, Turned>,
    ) -> Result<(), EbpfError> {
        if left.is_empty() {
            return Ok(());
        }
        self.left.push((Instant::now() + LINGER, left));
        self.sweep(sockets)
    }

    /// As [`bury`](Self::bury), for an agent that does not know who was there before it: whatever leads to nobody known.
    pub fn bury_strangers(
        &mut self,
        known: &HashMap<u64, V6>,
        sockets: &mut Table<SocketKey, Turned>,
    ) -> Result<(), EbpfError> {
        let all = sockets.all()?.into_iter().filter(|(_, turned)| turned.tag != 0);
        let astray = all.filter_map(|(key, turned)| match known.get(&turned.tag) {
            Some(&address) if address == key.address => None,
            elsewhere => Some((turned.tag, elsewhere.copied())),
        });
        self.bury(astray.collect(), sockets)
    }

    /// Looks for sockets of those who left lately; to be called every second.
    pub fn sweep(&mut self, sockets: &mut Table<SocketKey, Turned>) -> Result<(), EbpfError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut doomed: BTreeMap<u64, Doomed> = BTreeMap::new();
        for (key, turned) in sockets.all()? {
            let is_astray = |(_, left): &&(Instant, Departures)| {
                left.get(&turned.tag)
                    .is_some_and(|address| *address != Some(key.address))
            };
            let Some((until, _)) = self.left.iter().find(is_astray) else {
                continue;
            };
            doomed
                .entry(turned.namespace)
                .or_default()
                .insert(key.cookie, key.port);
            if *until <= now {
                sockets.remove(&key)?;
            }
        }
        self.left.retain(|(until, _)| *until > now);
        if !doomed.is_empty() {
            // Namespaces are entered by a thread, which none that does other work may be.
            std::thread::spawn(move || namespaces::end(doomed));
        }
        Ok(())
    }
}
