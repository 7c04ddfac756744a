//! Connections and UDP flows by member: how many there are, and the end of connections whose member is gone or has drained for
//! too long.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::Cause;
use crate::model::{self, Protocol, Service, Snapshot, Standing};
use crate::plane::FlowReport;

/// Of all workers.
#[derive(Debug, Default)]
pub struct Live {
    books: Mutex<Books>,
    /// The generation of the snapshot whose members are known.
    followed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Books {
    /// Those of the snapshot, by tag.
    members: HashMap<u64, Known>,
}

#[derive(Debug, Default)]
struct Member {
    connections: AtomicU64,
    /// Of UDP.
    flows: AtomicU64,
    /// Why its connections end, once they do.
    ended: OnceLock<Cause>,
    end: Notify,
}

/// A member of the snapshot.
#[derive(Debug, Default)]
struct Known {
    member: Arc<Member>,
    /// On this node: connections to others are their nodes' to tell.
    here: bool,
    /// Since when it drains, and for how long its connections may go on.
    draining: Option<(Instant, Duration)>,
    /// They were ended for that once.
    drained: bool,
}

/// What a snapshot says of a member.
struct Said {
    tag: u64,
    here: bool,
    may: bool,
    patience: Option<Duration>,
}

/// How long connections to a task that drains may go on; none: it does not drain, or there is no such time.
fn patience(service: &Service, task: &str) -> Option<Duration> {
    let patience = service.proxy.drain?;
    let at = service
        .backends
        .binary_search_by(|backend| (*backend.task).cmp(task));
    (service.backends[at.ok()?].standing == Standing::Draining).then_some(patience)
}

impl Known {
    fn is_used(&self) -> bool {
        self.member.all() > 0
    }
}

impl Member {
    fn count(&self, protocol: Protocol) -> &AtomicU64 {
        match protocol {
            Protocol::Tcp => &self.connections,
            Protocol::Udp => &self.flows,
        }
    }

    fn all(&self) -> u64 {
        self.connections.load(Ordering::Relaxed) + self.flows.load(Ordering::Relaxed)
    }

    fn end(&self, cause: Cause) {
        let _ = self.ended.set(cause);
        self.end.notify_waiters();
    }
}

/// One connection or flow of a member, counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    member: Arc<Member>,
    protocol: Protocol,
}

impl Live {
    /// Counts a connection of the member with this tag; none: the member is gone.
    pub fn count(&self, tag: u64) -> Option<Counted> {
        self.count_one(tag, Protocol::Tcp)
    }

    /// The same for a UDP flow, which is no [`load`](Self::load).
    pub fn count_flow(&self, tag: u64) -> Option<Counted> {
        self.count_one(tag, Protocol::Udp)
    }

    fn count_one(&self, tag: u64, protocol: Protocol) -> Option<Counted> {
        let member = Arc::clone(&self.lock().members.get(&tag)?.member);
        member.count(protocol).fetch_add(1, Ordering::Relaxed);
        Some(Counted { member, protocol })
    }

    /// As [`count`](Self::count), once the snapshot of that generation is followed, or a later one.
    pub async fn count_at(&self, tag: u64, generation: u64) -> Option<Counted> {
        let mut followed = self.followed.subscribe();
        // It is there as long as this is.
        let _ = followed.wait_for(|followed| *followed >= generation).await;
        drop(followed);
        self.count(tag)
    }

    /// Connections that a member has now through this node, and where it is this node's, through others.
    pub fn load(&self, tag: u64) -> u64 {
        let books = self.lock();
        let live = books.members.get(&tag);
        live.map_or(0, |live| live.member.connections.load(Ordering::Relaxed))
    }

    /// Knows those of the snapshot's members from now on that may have connections, and ends the connections of those that it no longer has.
    pub fn follow(&self, snapshot: &Snapshot, node: &str, may: impl Fn(&model::Member) -> bool) {
        // Whoever counts a connection waits for the lock: what takes its time is done before.
        let mut members = Vec::new();
        for pool in &snapshot.pools {
            let service = snapshot.services.get(&pool.service);
            members.extend(pool.members.iter().map(|member| Said {
                tag: member.candidate.tag,
                here: &*member.node == node,
                may: may(member),
                patience: service.and_then(|service| patience(service, &member.task)),
            }));
        }
        let (mut after, now) = (HashMap::with_capacity(members.len()), Instant::now());
        let mut books = self.lock();
        let mut before = std::mem::take(&mut books.members);
        for member in members {
            let known = before.remove(&member.tag);
            // Whoever has connections keeps them, whichever plane the next ones are for.
            if !member.may && !known.as_ref().is_some_and(Known::is_used) {
                continue;
            }
            let mut live = known.unwrap_or_default();
            live.here = member.here;
            live.drained &= member.patience.is_some();
            live.draining = member.patience.map(|patience| {
                let since = live.draining.map_or(now, |(since, _)| since);
                (since, patience)
            });
            after.insert(member.tag, live);
        }
        books.members = after;
        drop(books);
        self.followed.send_replace(snapshot.generation);
        for live in before.into_values() {
            live.member.end(Cause::MemberGone);
        }
    }

    /// Ends the connections of members whose time to drain is over.
    pub fn look(&self) {
        let now = Instant::now();
        for live in self.lock().members.values_mut() {
            let is_over = |(since, patience)| now.duration_since(since) >= patience;
            if live.draining.is_some_and(is_over) {
                // A connection made from now on, as there is nobody else, has as much time again.
                let member = std::mem::take(&mut live.member);
                (live.draining, live.drained) = (None, true);
                member.end(Cause::Drained);
            }
        }
    }

    /// Whether a member has drained for as long as its service allows.
    pub fn has_drained(&self, tag: u64) -> bool {
        self.lock().members.get(&tag).is_some_and(|live| live.drained)
    }

    /// Ends the connections of one member.
    pub fn end(&self, tag: u64, cause: Cause) {
        if let Some(live) = self.lock().members.get_mut(&tag) {
            std::mem::take(&mut live.member).end(cause);
        }
    }

    /// Connections and flows of every member that has any, and whether it is on this node.
    pub fn counts(&self) -> Vec<(u64, u64, bool)> {
        let books = self.lock();
        let counts = books
            .members
            .iter()
            .map(|(tag, live)| (*tag, live.member.all(), live.here));
        counts.filter(|(_, count, _)| *count > 0).collect()
    }

    /// Connections and flows to members on this node.
    pub fn report(&self) -> FlowReport {
        let generation = *self.followed.borrow();
        let books = self.lock();
        let here = books.members.iter().filter(|(_, live)| live.here);
        let counts = here.map(|(tag, live)| (*tag, live.member.all()));
        let members: BTreeMap<u64, u64> = counts.filter(|(_, count)| *count > 0).collect();
        FlowReport {
            generation: (generation > 0).then_some(generation),
            established: members.values().sum(),
            closing: 0,
            members,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Waits until the member's connections are to end, and says why.
    pub async fn ended(&self) -> Cause {
        let end = self.member.end.notified();
        tokio::pin!(end);
        // Waits from here on: an end between the look and the wait is not missed.
        end.as_mut().enable();
        if self.member.ended.get().is_none() {
            end.await;
        }
        *self.member.ended.get().unwrap_or(&Cause::MemberGone)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.member.count(self.protocol).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::fronts::tests::snapshot;

    #[test]
    fn flows_of_datagrams_are_told_and_are_no_load() {
        let live = Live::default();
        let snapshot = snapshot(&["172.18.0.2"]);
        let tag = snapshot.pools[0].members[0].candidate.tag;
        live.follow(&snapshot, "node1", |_| true);
        let (connection, flow) = (live.count(tag), live.count_flow(tag));
        assert_eq!((live.load(tag), live.report().members[&tag]), (1, 2));
        drop(connection);
        assert_eq!((live.load(tag), live.counts()), (0, vec![(tag, 1, true)]));
        drop(flow);
        assert_eq!(live.report().established, 0);
    }
}
