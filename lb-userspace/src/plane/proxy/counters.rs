//! How connections ended, and what was tried for them: counted by all workers, for as long as the plane lives.

use std::sync::atomic::{AtomicU64, Ordering};

use super::listen::Listeners;
use super::report::{CauseReport, ProxyReport};

/// Why a connection ended: every one has exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Both sides have said all.
    Done,
    ClientReset,
    TaskReset,
    /// Its task is gone.
    MemberGone,
    /// Its task was drained for as long as its service allows.
    Drained,
    /// Both sides were silent for as long as its service allows.
    Idle,
    /// A trusted proxy did not say whose connection it is, or not in time.
    Malformed,
    /// The service has no task that could be asked, or none is left to be asked.
    NoMember,
    /// Every task asked refused, or could not be reached.
    Refused,
    /// No task asked answered in time.
    TimedOut,
    /// The client was gone before a task had answered.
    Abandoned,
    /// This node has no descriptor, pipe or memory left.
    Exhausted,
    /// Its agent was replaced by another one, and the time for connections to end was over.
    Replaced,
}

impl Cause {
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::ClientReset,
        Self::TaskReset,
        Self::MemberGone,
        Self::Drained,
        Self::Idle,
        Self::Malformed,
        Self::NoMember,
        Self::Refused,
        Self::TimedOut,
        Self::Abandoned,
        Self::Exhausted,
        Self::Replaced,
    ];

    /// As it is written in output and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientReset => "client_reset",
            Self::TaskReset => "task_reset",
            Self::MemberGone => "member_gone",
            Self::Drained => "drained",
            Self::Idle => "idle",
            Self::Malformed => "malformed",
            Self::NoMember => "no_member",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Abandoned => "abandoned",
            Self::Exhausted => "exhausted",
            Self::Replaced => "replaced",
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    /// Accepted.
    pub opened: AtomicU64,
    ended: [AtomicU64; Cause::ALL.len()],
    /// Further tasks asked for a client whose first one could not be had.
    pub retries: AtomicU64,
    /// Times that a worker stopped to accept, for want of descriptors or with as many connections as may be.
    pub pauses: AtomicU64,
    pub to_tasks: AtomicU64,
    pub to_clients: AtomicU64,
}

impl Counters {
    pub fn end(&self, cause: Cause) {
        self.ended[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Of another agent, which was there before this one and does not count any more.
    pub fn note_cut(&self, connections: u64) {
        self.opened.fetch_add(connections, Ordering::Relaxed);
        self.ended[Cause::Replaced as usize].fetch_add(connections, Ordering::Relaxed);
    }

    /// Connections that have begun and not ended.
    pub fn open(&self) -> u64 {
        let ended: u64 = self.ended.iter().map(|ended| ended.load(Ordering::Relaxed)).sum();
        self.opened.load(Ordering::Relaxed).saturating_sub(ended)
    }

    pub fn report(&self, listeners: &Listeners, workers: usize) -> ProxyReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let causes = Cause::ALL
            .iter()
            .zip(&self.ended)
            .map(|(cause, ended)| CauseReport {
                cause: cause.label().into(),
                connections: count(ended),
            });
        ProxyReport {
            workers,
            listeners: listeners.len(),
            led: listeners.led().map(|bind| bind.to_string()).collect(),
            opened: count(&self.opened),
            ended: causes.collect(),
            retries: count(&self.retries),
            pauses: count(&self.pauses),
            bytes_to_tasks: count(&self.to_tasks),
            bytes_to_clients: count(&self.to_clients),
            ..ProxyReport::default()
        }
    }
}
