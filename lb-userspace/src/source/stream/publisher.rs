//! What a manager's agent has to tell, and the changes that led to it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use super::codec;
use super::step::Step;
use super::wire::Update;
use super::wire::update::Body;
use crate::model::Desired;

/// Steps that are remembered, and names in all of them: who was away for longer gets the picture in full.
const STEPS: usize = 256;
const NAMES: usize = 65_536;

/// Where the source puts its pictures. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Publisher {
    epoch: u64,
    newest: Arc<watch::Sender<Option<Arc<Issue>>>>,
}

/// One picture with what is needed to bring others to it.
#[derive(Debug)]
pub struct Issue {
    epoch: u64,
    generation: u64,
    desired: Arc<Desired>,
    /// The last of them led here.
    steps: VecDeque<Arc<Step>>,
    /// Encoded once, when it is first asked for.
    full: OnceLock<Bytes>,
    /// Likewise, by the generation that they are for.
    differences: Mutex<HashMap<u64, Bytes>>,
}

impl Publisher {
    /// With nothing to tell yet.
    pub fn new() -> Self {
        Self {
            // Different in every life of the agent; 0 means none.
            epoch: RandomState::new().hash_one(0) | 1,
            newest: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Replaces what is told. Guests are not; the same picture again is no news. A change of few backends is a small one
    /// where a service's backends are sorted by task before and after.
    pub fn publish(&self, desired: Arc<Desired>) {
        self.newest.send_if_modified(|newest| {
            let Some(issue) = newest else {
                *newest = Some(Arc::new(Issue::first(self.epoch, desired)));
                return true;
            };
            let step = Step::between(&issue.desired, &desired);
            if step.is_empty() {
                return false;
            }
            *newest = Some(Arc::new(issue.next(step, desired)));
            true
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Issue>>> {
        self.newest.subscribe()
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Issue {
    fn first(epoch: u64, desired: Arc<Desired>) -> Self {
        Self {
            epoch,
            generation: 1,
            desired,
            steps: VecDeque::new(),
            full: OnceLock::new(),
            differences: Mutex::default(),
        }
    }

    fn next(&self, step: Step, desired: Arc<Desired>) -> Self {
        let mut steps = self.steps.clone();
        steps.push_back(Arc::new(step));
        let mut names: usize = steps.iter().map(|step| step.names()).sum();
        while steps.len() > STEPS || names > NAMES {
            names -= steps.pop_front().map_or(names, |step| step.names());
        }
        Self {
            generation: self.generation + 1,
            steps,
            ..Self::first(self.epoch, desired)
        }
    }

    /// Epoch and generation.
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.generation)
    }

    /// For a follower that has this generation of this epoch: what has changed since, in one message, or all of it.
    pub fn update(&self, epoch: u64, generation: u64) -> Update {
        let known = if epoch == self.epoch {
            self.difference(generation)
        } else {
            None
        };
        Update {
            epoch: self.epoch,
            generation: self.generation,
            body: Some(known.map_or_else(|| Body::Full(self.full()), Body::Diff)),
        }
    }

    fn full(&self) -> Bytes {
        self.full.get_or_init(|| codec::encode(&self.desired)).clone()
    }

    /// `None`: that was too long ago, or never.
    fn difference(&self, since: u64) -> Option<Bytes> {
        let back = usize::try_from(self.generation.checked_sub(since)?).ok()?;
        let first = self.steps.len().checked_sub(back)?;
        let mut differences = self
            .differences
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = differences.entry(since).or_insert_with(|| {
            let mut step = Step::default();
            for later in self.steps.iter().skip(first) {
                step.then(later);
            }
            step.message(since, &self.desired).encode_to_vec().into()
        });
        Some(bytes.clone())
    }
}

/// Bytes that each follower is sent when one picture becomes another, TLS and HTTP/2 frames not counted.
pub fn bytes_of_change(before: &Arc<Desired>, after: &Arc<Desired>) -> usize {
    let first = Issue::first(1, Arc::clone(before));
    let next = first.next(Step::between(before, after), Arc::clone(after));
    bytes_of(&next.update(1, first.generation))
}

/// As gRPC sends it: with a flag and a length in front.
pub(super) fn bytes_of(update: &Update) -> usize {
    const PREFIX: usize = 5;
    PREFIX + update.encoded_len()
}
