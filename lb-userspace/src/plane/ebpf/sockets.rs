//! The end of sockets that connect() led to a task which is gone. Their peer will never speak again, and without this a
//! process would wait for minutes until its own kernel gives up.
//!
//! Only a task that has left the snapshot ends its sockets: one that drains keeps them.

mod diag;
mod namespaces;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use lb_common::socket::{SocketKey, Turned};

use super::maps::Table;
use crate::plane::EbpfError;

pub use namespaces::own_cookie;

/// A connect() that was under way when its task left is found by a later look; nobody chooses the task any more.
const LINGER: Duration = Duration::from_secs(3);

/// Sockets to end in one network namespace: the socket's cookie and the port it leads to.
type Doomed = HashMap<u64, [u8; 2]>;

/// Tasks that left lately.
#[derive(Default)]
pub struct Graves {
    left: Vec<(Instant, HashSet<u64>)>,
}

impl Graves {
    /// Members that left: their sockets end now, and those found within some seconds.
    pub fn bury(
        &mut self,
        tags: HashSet<u64>,
        sockets: &mut Table<SocketKey, Turned>,
    ) -> Result<(), EbpfError> {
        if tags.is_empty() {
            return Ok(());
        }
        self.left.push((Instant::now() + LINGER, tags));
        self.sweep(sockets)
    }

    /// As [`bury`](Self::bury), for an agent that does not know who was there before it: whatever leads to nobody known.
    pub fn bury_strangers(
        &mut self,
        known: &HashSet<u64>,
        sockets: &mut Table<SocketKey, Turned>,
    ) -> Result<(), EbpfError> {
        let tags = sockets.all()?.into_iter().map(|(_, turned)| turned.tag);
        let strangers = tags.filter(|tag| *tag != 0 && !known.contains(tag)).collect();
        self.bury(strangers, sockets)
    }

    /// Looks for sockets of those who left lately; to be called every second.
    pub fn sweep(&mut self, sockets: &mut Table<SocketKey, Turned>) -> Result<(), EbpfError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut doomed: BTreeMap<u64, Doomed> = BTreeMap::new();
        for (key, turned) in sockets.all()? {
            let Some((until, _)) = self.left.iter().find(|(_, tags)| tags.contains(&turned.tag)) else {
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
