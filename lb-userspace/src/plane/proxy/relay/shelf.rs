//! Finished handshakes, so that a client waits for none: a few for each node, as long as connections are relayed to it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::dial::{Caller, Destination, Failure};
use super::limits::{AGAIN, HANDS, HANDSHAKE, SPARE, SPARES};
use super::wire::Wire;

/// Those of one dialer.
#[derive(Clone, Default)]
pub struct Shelves(Arc<Mutex<All>>);

type All = HashMap<Destination, Arc<Shelf>>;

/// Those to one node. Kept by a task of its own.
struct Shelf {
    stock: Mutex<Stock>,
    taken: Notify,
    /// For clients who find nothing in stock.
    hands: Semaphore,
}

struct Stock {
    /// The oldest first.
    spares: Vec<Spare>,
    /// When a connection was last wanted.
    asked: Instant,
}

struct Spare {
    tls: TlsStream<Wire>,
    since: Instant,
}

impl Shelves {
    /// The newest that is alive. From now on some are kept for this node.
    pub fn take(&self, caller: &Arc<Caller>, destination: &Destination) -> Option<TlsStream<Wire>> {
        let now = Instant::now();
        let mut shelves = lock(&self.0);
        let Some(shelf) = shelves.get(destination) else {
            self.add(&mut shelves, caller, destination, now);
            return None;
        };
        let mut stock = lock(&shelf.stock);
        stock.asked = now;
        shelf.taken.notify_one();
        while let Some(mut spare) = stock.spares.pop() {
            if now - spare.since < SPARE && is_silent(&mut spare.tls) {
                return Some(spare.tls);
            }
        }
        None
    }

    /// One more for a client who has found none. Those who wait for a node that says nothing keep nobody from another one.
    pub async fn make(&self, caller: &Caller, destination: &Destination) -> Result<TlsStream<Wire>, Failure> {
        let shelf = lock(&self.0).get(destination).map(Arc::clone);
        let _hand = match &shelf {
            // Not closed while it is there.
            Some(shelf) => shelf.hands.acquire().await.ok(),
            None => None,
        };
        caller.connect(destination).await
    }

    /// Finds out whether a node can be reached.
    pub fn look(&self, caller: &Arc<Caller>, destination: &Destination) {
        let mut shelves = lock(&self.0);
        if !shelves.contains_key(destination) {
            self.add(&mut shelves, caller, destination, Instant::now());
        }
    }

    fn add(&self, shelves: &mut All, caller: &Arc<Caller>, destination: &Destination, now: Instant) {
        let shelf = Arc::new(Shelf::new(now));
        shelves.insert(destination.clone(), Arc::clone(&shelf));
        tokio::spawn(self.clone().keep(shelf, Arc::clone(caller), destination.clone()));
    }

    /// Throws all of a node's away.
    pub fn clear(&self, destination: &Destination) {
        if let Some(shelf) = lock(&self.0).get(destination) {
            lock(&shelf.stock).spares.clear();
        }
    }

    async fn keep(self, shelf: Arc<Shelf>, caller: Arc<Caller>, destination: Destination) {
        while !self.retire(&shelf, &caller, &destination) {
            if lock(&shelf.stock).spares.len() < SPARES {
                let began = Instant::now();
                let outcome = timeout(HANDSHAKE, caller.connect(&destination)).await;
                match outcome.unwrap_or(Err(Failure::Silent)) {
                    Ok(tls) => {
                        let since = Instant::now();
                        lock(&shelf.stock).spares.push(Spare { tls, since });
                    }
                    // Clients who come meanwhile find out for themselves.
                    Err(failure) => {
                        caller.note(&destination, began, &failure);
                        sleep(AGAIN).await;
                    }
                }
            } else {
                let _ = timeout(AGAIN, shelf.taken.notified()).await;
            }
        }
    }

    /// Throws away what is too old; the whole shelf, where nothing was asked for in all that time. A node that cannot be reached is
    /// tried until it can be: operators are told of it so long.
    fn retire(&self, shelf: &Shelf, caller: &Caller, destination: &Destination) -> bool {
        let is_missed = caller.misses(destination);
        let mut shelves = lock(&self.0);
        let (now, mut stock) = (Instant::now(), lock(&shelf.stock));
        stock.spares.retain(|spare| now - spare.since < SPARE);
        let unused = now - stock.asked >= SPARE && !is_missed;
        if unused {
            stock.spares.clear();
            shelves.remove(destination);
        }
        unused
    }
}

#[cfg(test)]
impl Shelves {
    pub fn spares(&self) -> usize {
        let shelves = lock(&self.0);
        shelves
            .values()
            .map(|shelf| lock(&shelf.stock).spares.len())
            .sum()
    }

    /// Nodes that handshakes are made with.
    pub fn nodes(&self) -> usize {
        lock(&self.0).len()
    }

    /// As if the other side had cut them off.
    pub fn kill(&self) {
        for shelf in lock(&self.0).values() {
            for spare in &lock(&shelf.stock).spares {
                spare.tls.get_ref().0.kill();
            }
        }
    }
}

impl Shelf {
    fn new(now: Instant) -> Self {
        Self {
            stock: Mutex::new(Stock {
                spares: Vec::new(),
                asked: now,
            }),
            taken: Notify::new(),
            hands: Semaphore::new(HANDS),
        }
    }
}

/// Whether the other side has said nothing yet, which is what it does as long as it is there.
fn is_silent(tls: &mut TlsStream<Wire>) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(tls)
        .poll_read(&mut context, &mut ReadBuf::new(&mut byte))
        .is_pending()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
