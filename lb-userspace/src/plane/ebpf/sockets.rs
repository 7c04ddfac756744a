//! The end of sockets that connect() led to a task which is gone. Their peer will never speak again, and without this a
//! process would wait for minutes until its own kernel gives up.
//!
//! Only a task that has left the snapshot ends its sockets: one that drains keeps them.

mod diag;
mod engines;
mod listeners;
mod namespaces;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lb_common::V6;
use lb_common::socket::Turned;

use super::maps::Table;
use super::tables::Left;
use crate::plane::{EbpfError, Problem};

pub use engines::Owners;
pub use listeners::{inodes, kept, listeners};
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
    /// Why the last ones did not end.
    refusal: Arc<Mutex<Option<String>>>,
}

impl Graves {
    /// Carries out who left with a snapshot: their sockets end now, and those found within some seconds. Nothing else waits for
    /// that, or fails with it.
    pub fn bury(&mut self, left: Left, sockets: &mut Table<u64, Turned>) {
        let result = self.look_for(left, sockets);
        self.note_failure(result);
    }

    /// Looks for sockets of those who left lately; to be called every second.
    pub fn sweep(&mut self, sockets: &mut Table<u64, Turned>) {
        let result = self.end(sockets);
        self.note_failure(result);
    }

    pub fn problem(&self) -> Option<Problem> {
        let refusal = self.refusal.lock().ok()?;
        refusal.as_ref().map(|reason| Problem {
            error: format!("cannot end the sockets of tasks that are gone: {reason}"),
            traffic: "processes connected to such a task wait for their own timeouts; all others are served".into(),
            fix: "see whether the kernel has CONFIG_INET_DIAG_DESTROY and the agent CAP_NET_ADMIN and CAP_SYS_ADMIN, and in a container the machine's /run/docker/netns at /host/run/docker/netns; it is tried again when the next task goes".into(),
        })
    }

    fn note_failure(&self, result: Result<(), EbpfError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "sockets of tasks that are gone cannot be looked for");
            tell(&self.refusal, Some(error.to_string()));
        }
    }

    fn look_for(&mut self, left: Left, sockets: &mut Table<u64, Turned>) -> Result<(), EbpfError> {
        match left {
            Left::These { left, present } => self.note(left, &present),
            // Whatever leads to nobody known.
            Left::AllBut(present) => {
                let all = sockets.all()?.into_iter().filter(|(_, turned)| turned.tag != 0);
                let astray = all.filter_map(|(_, turned)| match present.get(&turned.tag) {
                    Some(&address) if address == turned.led.address => None,
                    elsewhere => Some((turned.tag, elsewhere.copied())),
                });
                self.note(astray.collect(), &present);
            }
        }
        self.end(sockets)
    }

    /// Who left is looked for; what leads to one that came back is not.
    fn note(&mut self, left: Departures, present: &HashMap<u64, V6>) {
        for (tag, address) in self.left.iter_mut().flat_map(|(_, left)| left) {
            if let Some(now) = present.get(tag) {
                *address = Some(*now);
            }
        }
        if !left.is_empty() {
            self.left.push((Instant::now() + LINGER, left));
        }
    }

    fn end(&mut self, sockets: &mut Table<u64, Turned>) -> Result<(), EbpfError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut doomed: BTreeMap<u64, Doomed> = BTreeMap::new();
        for (cookie, turned) in sockets.all()? {
            let is_astray = |(_, left): &&(Instant, Departures)| {
                left.get(&turned.tag)
                    .is_some_and(|address| *address != Some(turned.led.address))
            };
            let Some((until, _)) = self.left.iter().find(is_astray) else {
                continue;
            };
            doomed
                .entry(turned.namespace)
                .or_default()
                .insert(cookie, turned.led.port);
            if *until <= now {
                sockets.remove(&cookie)?;
            }
        }
        self.left.retain(|(until, _)| *until > now);
        if !doomed.is_empty() {
            // Namespaces are entered by a thread, which none that does other work may be.
            let refusal = Arc::clone(&self.refusal);
            std::thread::spawn(move || {
                let result = namespaces::end(doomed);
                tell(&refusal, result.err().map(|error| error.to_string()));
            });
        }
        Ok(())
    }
}

fn tell(refusal: &Mutex<Option<String>>, reason: Option<String>) {
    if let Ok(mut refusal) = refusal.lock() {
        *refusal = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: V6 = [1; 16];

    #[test]
    fn connections_to_a_task_that_is_back_are_not_looked_for() {
        let mut graves = Graves::default();
        graves.note([(1, None), (2, None)].into(), &HashMap::new());
        graves.note([(3, None)].into(), &[(1, HERE)].into());
        let left: Vec<_> = graves.left.iter().map(|(_, left)| left.clone()).collect();
        assert_eq!(left, [[(1, Some(HERE)), (2, None)].into(), [(3, None)].into()]);
    }
}
