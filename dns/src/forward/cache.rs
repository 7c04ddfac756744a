//! Answers that are remembered: each for its TTL, then as a last resort while upstreams do not answer (RFC 8767).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache as Table;

use super::packed::{Age, Packed};
use super::question::Question;
use crate::config::ForwardConfig;

/// RFC 8767 §5: after a failure, what is stale is given at once for so long.
const RECHECK: Duration = Duration::from_secs(30);
/// RFC 9520 §3.2: a failure is remembered for at least a second; longer would outlast what caused it.
const FAILURE: Duration = Duration::from_secs(1);

pub(super) struct Cache {
    table: Table<Question, Arc<Stored>, Weights>,
    max_ttl: u32,
    stale: Duration,
    started: Instant,
}

struct Stored {
    /// `None`: all upstreams failed.
    answer: Option<Arc<Packed>>,
    stored: Instant,
    expires: Instant,
    /// Milliseconds since the start of the cache, until when no upstream is asked again.
    recheck: AtomicU64,
}

pub(super) enum Remembered {
    Answer(Arc<Packed>, Age),
    Failure,
    /// Upstreams are to be asked; this is what there is if they fail.
    Stale(Arc<Packed>),
    Nothing,
}

#[derive(Clone)]
struct Weights;

impl Weighter<Question, Arc<Stored>> for Weights {
    fn weight(&self, question: &Question, stored: &Arc<Stored>) -> u64 {
        let answer = stored.answer.as_ref().map_or(0, |answer| answer.weight());
        // What the table itself keeps per item, about.
        (question.weight() + size_of::<Stored>() + answer + 64) as u64
    }
}

impl Cache {
    pub(super) fn new(config: &ForwardConfig) -> Self {
        // An answer takes some 300 bytes.
        let items = usize::try_from(config.cache_bytes / 300)
            .unwrap_or(usize::MAX)
            .max(16);
        Self {
            table: Table::with_weighter(items, config.cache_bytes, Weights),
            max_ttl: config.max_ttl,
            stale: config.stale,
            started: Instant::now(),
        }
    }

    pub(super) fn get(&self, question: &Question, now: Instant) -> Remembered {
        let Some(stored) = self.table.get(question) else {
            return Remembered::Nothing;
        };
        let Some(answer) = &stored.answer else {
            return if now < stored.expires {
                Remembered::Failure
            } else {
                Remembered::Nothing
            };
        };
        if now < stored.expires {
            return Remembered::Answer(Arc::clone(answer), Age::Fresh(now - stored.stored));
        }
        if now - stored.expires >= self.stale {
            return Remembered::Nothing;
        }
        if self.milliseconds(now) < stored.recheck.load(Ordering::Relaxed) {
            return Remembered::Answer(Arc::clone(answer), Age::Stale);
        }
        Remembered::Stale(Arc::clone(answer))
    }

    pub(super) fn insert(&self, question: &Question, answer: &Arc<Packed>, now: Instant) {
        let ttl = answer.ttl().min(self.max_ttl);
        // An answer for once (TTL 0) still replaces what is known to be wrong by now.
        if ttl == 0 {
            self.table.remove(question);
            return;
        }
        self.put(
            question,
            Some(Arc::clone(answer)),
            now,
            Duration::from_secs(ttl.into()),
        );
    }

    /// All upstreams failed.
    pub(super) fn fail(&self, question: &Question, now: Instant) {
        match self.table.get(question) {
            Some(stored) if stored.answer.is_some() && now < stored.expires + self.stale => {
                let until = self.milliseconds(now + RECHECK);
                stored.recheck.store(until, Ordering::Relaxed);
            }
            _ => self.put(question, None, now, FAILURE),
        }
    }

    fn put(&self, question: &Question, answer: Option<Arc<Packed>>, now: Instant, ttl: Duration) {
        let stored = Stored {
            answer,
            stored: now,
            expires: now + ttl,
            recheck: AtomicU64::new(0),
        };
        self.table.insert(question.clone(), Arc::new(stored));
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
