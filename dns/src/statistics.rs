//! Counters, for the embedding program to export.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Only grows; wraps after centuries.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count and the sum of what was counted, for averages and rates.
#[derive(Debug, Default)]
pub struct Latency {
    pub count: Counter,
    pub nanoseconds: Counter,
}

impl Latency {
    pub(crate) fn add(&self, count: u64, took: Duration) {
        self.count.add(count);
        self.nanoseconds.add(
            u64::try_from(took.as_nanos())
                .unwrap_or(u64::MAX)
                .saturating_mul(count),
        );
    }
}

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What became of queries. Each is counted as received, and under one of the outcomes `found` to
        /// `overloaded` (but `truncated` and `coalesced`, which come beside another).
        #[derive(Debug, Default)]
        pub struct Statistics {
            $($(#[$doc])* pub $name: Counter,)*
            /// From a batch of datagrams to its answers, for what needs no upstream.
            pub here: Latency,
            /// From the query to the answer, for what does.
            pub forwarded: Latency,
        }

        impl Statistics {
            /// Every counter with its name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

statistics! {
    received_udp,
    received_tcp,
    /// Answered with records of the directory.
    found,
    /// The name is ours, the type is not there.
    nodata,
    nxdomain,
    /// Classes and questions that are not served, and names of others where there are no upstreams.
    refused,
    /// FORMERR, NOTIMP and BADVERS.
    invalid,
    /// SERVFAIL for names that the directory may know soon.
    unready,
    /// Not even a header, or an answer where a query should be.
    dropped,
    /// By the limit of a client, without an answer.
    limited_dropped,
    /// By the limit of a client, with an empty truncated answer: a real client comes back by TCP.
    limited_truncated,
    /// Cut to the size of the client.
    truncated,
    /// Answered from memory.
    cached,
    /// Answered from memory after its time, because no upstream did.
    stale,
    /// Asked an upstream; the answer is passed on.
    forwarded_answered,
    /// Waited for an upstream that was being asked the same already.
    coalesced,
    /// No upstream answered in time.
    forwarded_failed,
    /// Too many questions waited for upstreams already.
    overloaded,
    tcp_connections,
    /// Closed at once: too many, of one client or in all.
    tcp_refused,
    upstream_queries,
    upstream_timeouts,
    /// Answers with a wrong id, question, source or shape.
    upstream_nonsense,
    upstream_tcp,
    upstream_loops,
    send_failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_name() {
        let statistics = Statistics::default();
        statistics.truncated.increment();
        let counted: Vec<_> = statistics.counters().filter(|(_, value)| *value > 0).collect();
        assert_eq!(counted, [("truncated", 1)]);
    }
}
