//! What became of flows and datagrams.

use std::iter::Sum;
use std::ops::{AddAssign, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plane::proxy::report::{TrafficReport, UdpReport};

/// Why a datagram was not carried: every one that is lost here is counted under one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The service has no task that could be asked.
    NoMember,
    /// As many flows as this node may have are there.
    Flows,
    /// As many flows as a source may have are there of this one.
    Source,
    /// This node has no descriptor or port left for another flow.
    Exhausted,
    /// Its task refused it or could not be reached, and no other one can have it.
    Refused,
    /// A socket's buffer is full: datagrams come faster than they can be sent.
    Full,
    /// The connection to another node has no room: datagrams come faster than it takes them.
    Congested,
    /// It waited for a connection to another node that broke, or could not be made.
    Broken,
    /// Its flow had ended on the one node while it came from the other.
    Closed,
    /// The kernel would not send it.
    Failed,
    /// It was sent to more than this host: answers would be as many as there are hosts.
    Broadcast,
}

impl Loss {
    pub const ALL: [Self; 11] = [
        Self::NoMember,
        Self::Flows,
        Self::Source,
        Self::Exhausted,
        Self::Refused,
        Self::Full,
        Self::Congested,
        Self::Broken,
        Self::Closed,
        Self::Failed,
        Self::Broadcast,
    ];

    /// As it is written in output and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoMember => "no_member",
            Self::Flows => "flows",
            Self::Source => "source",
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Full => "full",
            Self::Congested => "congested",
            Self::Broken => "broken",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Broadcast => "broadcast",
        }
    }
}

/// Counted by all workers; written once for each batch, not for each datagram.
#[derive(Debug, Default)]
pub struct Counters {
    /// Flows that were given to a member.
    pub begun: AtomicU64,
    /// Of these, those that another member had before, which is gone or unfit.
    pub moved: AtomicU64,
    /// Flows whose member had gone before their next datagram.
    pub gone: AtomicU64,
    /// Flows that were silent for too long.
    pub idle: AtomicU64,
    /// Flows that were never answered and made room for others.
    pub evicted: AtomicU64,
    /// Flows whose task refused a datagram, or could not be reached.
    pub refused: AtomicU64,
    /// Of these, those whose only datagram went to another member instead.
    pub retried: AtomicU64,
    /// Of these, those whose client was told (ICMP port unreachable).
    pub told: AtomicU64,
    pub to_tasks: Traffic,
    pub to_clients: Traffic,
    lost: [AtomicU64; Loss::ALL.len()],
}

/// Given to the kernel to be sent.
#[derive(Debug, Default)]
pub struct Traffic {
    pub datagrams: AtomicU64,
    pub bytes: AtomicU64,
}

/// So many datagrams, and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub datagrams: u64,
    pub bytes: u64,
}

impl Amount {
    /// Of so many bytes, which are one datagram or several of that size.
    pub fn of(length: usize, segment: Option<u16>) -> Self {
        Self {
            datagrams: segment.map_or(1, |size| length.div_ceil(usize::from(size)) as u64),
            bytes: length as u64,
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            datagrams: self.datagrams - other.datagrams,
            bytes: self.bytes - other.bytes,
        }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        let mut all = Self::default();
        amounts.for_each(|amount| all += amount);
        all
    }
}

impl Traffic {
    fn report(&self) -> TrafficReport {
        TrafficReport {
            datagrams: self.datagrams.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub fn add(&self, amount: Amount) {
        if amount.datagrams > 0 {
            self.datagrams.fetch_add(amount.datagrams, Ordering::Relaxed);
            self.bytes.fetch_add(amount.bytes, Ordering::Relaxed);
        }
    }
}

impl Counters {
    pub fn lose(&self, loss: Loss, amount: Amount) {
        self.lost[loss as usize].fetch_add(amount.datagrams, Ordering::Relaxed);
    }

    pub fn lost(&self, loss: Loss) -> u64 {
        self.lost[loss as usize].load(Ordering::Relaxed)
    }

    /// `flows`: those that are there now.
    pub fn report(&self, flows: u64) -> UdpReport {
        let events = [
            ("begun", &self.begun),
            ("moved", &self.moved),
            ("gone", &self.gone),
            ("idle", &self.idle),
            ("evicted", &self.evicted),
            ("refused", &self.refused),
            ("retried", &self.retried),
            ("told", &self.told),
        ];
        let read = |(event, count): (&str, &AtomicU64)| (event.to_owned(), count.load(Ordering::Relaxed));
        let lost = Loss::ALL.map(|loss| (loss.label().to_owned(), self.lost(loss)));
        UdpReport {
            flows,
            events: events.map(read).into(),
            to_tasks: self.to_tasks.report(),
            to_clients: self.to_clients.report(),
            lost: lost.into(),
        }
    }
}

/// One more.
pub fn tick(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
