//! What a client saw: who answered, and everything that went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Refused,
    Reset,
    /// Nothing came within the time allowed.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// An answer that is not the task's.
    Answer,
    Other,
}

impl Kind {
    pub fn of(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::ConnectionRefused => Self::Refused,
            E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe => Self::Reset,
            E::TimedOut | E::WouldBlock => Self::Timeout,
            E::UnexpectedEof => Self::Closed,
            E::InvalidData => Self::Answer,
            _ => Self::Other,
        }
    }
}

/// One request that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Since the load began.
    pub at: Duration,
    pub target: SocketAddr,
    pub kind: Kind,
    /// The task that the connection belonged to, where one had answered on it before.
    pub task: Option<String>,
    /// The client's own end, for captures.
    pub local: Option<SocketAddr>,
    pub words: String,
}

/// Who answered, and what failed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers by the address asked and the task that answered.
    pub answers: BTreeMap<(SocketAddr, String), u64>,
    /// The client's addresses as the tasks saw them.
    pub clients: BTreeSet<IpAddr>,
    pub connections: u64,
    pub failures: Vec<Failure>,
    /// The longest that a request took.
    pub slowest: Duration,
}

impl Report {
    pub fn requests(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failures.len() as u64
    }

    /// Answers of one task.
    pub fn of_task(&self, task: &str) -> u64 {
        self.answers
            .iter()
            .filter(|((_, name), _)| name == task)
            .map(|(_, count)| count)
            .sum()
    }

    pub fn tasks(&self) -> BTreeSet<&str> {
        self.answers.keys().map(|(_, task)| task.as_str()).collect()
    }

    pub fn merge(&mut self, other: Self) {
        for (key, count) in other.answers {
            *self.answers.entry(key).or_default() += count;
        }
        self.clients.extend(other.clients);
        self.connections += other.connections;
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Failures for people, the first ten in full.
    pub fn complaint(&self) -> String {
        let mut text = format!("{} of {} requests failed", self.failures.len(), self.requests());
        for failure in self.failures.iter().take(10) {
            text.push_str(&format!("\n  {failure:?}"));
        }
        text
    }

    /// Panics unless there were requests and every one was answered.
    pub fn assert_flawless(&self) {
        assert!(self.requests() > 0, "no request was made");
        assert!(self.failures.is_empty(), "{}", self.complaint());
    }
}
