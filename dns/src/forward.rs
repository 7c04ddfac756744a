//! What is not ours: asked of upstreams, remembered, and asked only once at a time.

mod admission;
mod cache;
mod exchange;
mod packed;
mod probe;
mod question;
mod race;
mod upstream;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_server::proto::rr::Name;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::ForwardConfig;
use crate::statistics::Statistics;
use admission::{Admission, Permit};
use cache::{Cache, Remembered};
use exchange::Manner;
pub(crate) use packed::{Age, Packed};
pub(crate) use probe::{TOP, token};
pub(crate) use question::Question;
use race::race;
use upstream::{Group, Upstream};
pub use upstream::{Standing, UpstreamReport};

/// RFC 8767 §5: a client waits so long before it gets what is stale. Most give up soon after.
const CLIENT_PATIENCE: Duration = Duration::from_millis(1800);

pub(crate) struct Forwarder {
    config: ForwardConfig,
    cache: Cache,
    /// Domains as on the wire, the longest first; the root, if anything, last.
    routes: Box<[(Box<[u8]>, Group)]>,
    /// Questions that are being asked.
    running: Mutex<HashMap<Question, watch::Receiver<Option<Result>>>>,
    admission: Arc<Admission>,
    statistics: Arc<Statistics>,
}

/// What asking the upstreams came to; `Err` if none said anything.
type Result = std::result::Result<Arc<Packed>, Failed>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

pub(crate) enum Asked {
    Known(Arc<Packed>, Age),
    /// Upstreams are being asked.
    Later(Wait),
    Failed,
    /// Too many are waiting, of this client or in all.
    Overloaded,
    /// Nobody is there to be asked.
    Nobody,
}

/// Waits for an answer.
pub(crate) struct Wait {
    answer: watch::Receiver<Option<Result>>,
    stale: Option<Arc<Packed>>,
    _permit: Permit,
}

impl Forwarder {
    pub(crate) fn new(config: &ForwardConfig, statistics: Arc<Statistics>) -> Self {
        let mut routes: Vec<_> = config
            .domains
            .iter()
            .filter_map(|(domain, upstreams)| Some((Name::from_ascii(domain).ok()?, upstreams)))
            .chain((!config.upstreams.is_empty()).then(|| (Name::root(), &config.upstreams)))
            .map(|(domain, upstreams)| (question::wire(&domain), group(upstreams)))
            .collect();
        routes.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        // A tenth: enough for any client that is not out of its mind.
        let per_client = (config.in_flight / 10).max(1);
        Self {
            cache: Cache::new(config),
            routes: routes.into(),
            running: Mutex::default(),
            admission: Arc::new(Admission::new(config.in_flight, per_client)),
            statistics,
            config: config.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Starts to look after each upstream, those for all names below this top-level domain.
    pub(crate) fn watch(&self, top: &Name, tasks: &mut JoinSet<()>) {
        for (domain, group) in &self.routes {
            let domain = match &*question::text(domain) {
                "" => top.clone(),
                domain => zone_name(domain),
            };
            for upstream in &group.upstreams {
                let (upstream, statistics) = (Arc::clone(upstream), Arc::clone(&self.statistics));
                tasks.spawn(probe::probe(upstream, domain.clone(), statistics));
            }
        }
    }

    /// A probe has arrived; whether it is ours, and some upstream has led it here.
    pub(crate) fn came_back(&self, token: u64) -> bool {
        let mut ours = false;
        for upstream in self.upstreams().filter(|upstream| upstream.token == token) {
            upstream.came_back();
            ours = true;
        }
        ours
    }

    pub(crate) fn reports(&self) -> Vec<UpstreamReport> {
        let groups = self.routes.iter();
        let reports = groups.flat_map(|(domain, group)| {
            let report = |upstream: &Arc<Upstream>| UpstreamReport {
                address: upstream.address,
                domain: question::text(domain),
                standing: upstream.standing(),
                usual: upstream.smoothed(),
            };
            group.upstreams.iter().map(report)
        });
        reports.collect()
    }

    fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.routes.iter().flat_map(|(_, group)| &group.upstreams)
    }

    pub(crate) fn ask(self: &Arc<Self>, question: Question, client: IpAddr) -> Asked {
        let stale = match self.cache.get(&question, Instant::now()) {
            Remembered::Answer(packed, age) => return Asked::Known(packed, age),
            Remembered::Failure => return Asked::Failed,
            Remembered::Stale(packed) => Some(packed),
            Remembered::Nothing => None,
        };
        let Some(route) = self
            .routes
            .iter()
            .position(|(domain, _)| question.is_within(domain))
        else {
            return Asked::Nobody;
        };
        let Some(permit) = self.admission.admit(client) else {
            return Asked::Overloaded;
        };
        Asked::Later(Wait {
            answer: self.start(question, route),
            stale,
            _permit: permit,
        })
    }

    /// Asks, unless the same is being asked already.
    fn start(self: &Arc<Self>, question: Question, route: usize) -> watch::Receiver<Option<Result>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.entry(question) {
            Entry::Occupied(entry) => {
                self.statistics.coalesced.increment();
                entry.get().clone()
            }
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                let finish = Finish {
                    forwarder: Arc::clone(self),
                    question: entry.key().clone(),
                    sender,
                };
                entry.insert(receiver.clone());
                // On its own: whoever asked first may not be there to the end.
                tokio::spawn(finish.run(route));
                receiver
            }
        }
    }
}

fn zone_name(domain: &str) -> Name {
    let mut name = Name::from_ascii(domain).unwrap_or_default();
    name.set_fqdn(true);
    name
}

fn group(upstreams: &[SocketAddr]) -> Group {
    Group {
        upstreams: upstreams
            .iter()
            .map(|address| Arc::new(Upstream::new(*address)))
            .collect(),
    }
}

/// Takes the question off the list whatever becomes of the task.
struct Finish {
    forwarder: Arc<Forwarder>,
    question: Question,
    sender: watch::Sender<Option<Result>>,
}

impl Finish {
    async fn run(self, route: usize) {
        let Forwarder {
            config,
            cache,
            routes,
            statistics,
            ..
        } = &*self.forwarder;
        let manner = Manner {
            attempt: config.attempt,
            mix_case: config.mix_case,
            statistics,
        };
        let answer = timeout(config.deadline, race(&routes[route].1, &self.question, &manner)).await;
        let now = Instant::now();
        let result = match answer.ok().flatten().map(Arc::new) {
            Some(packed) if packed.is_conclusive() => {
                cache.insert(&self.question, &packed, now);
                Ok(packed)
            }
            Some(excuse) => {
                cache.fail(&self.question, now);
                Ok(excuse)
            }
            None => {
                cache.fail(&self.question, now);
                Err(Failed)
            }
        };
        self.sender.send_replace(Some(result));
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let mut running = self
            .forwarder
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.question);
    }
}

impl Wait {
    pub(crate) async fn answer(mut self) -> std::result::Result<(Arc<Packed>, Age), Failed> {
        let mut answer = async || {
            let answer = self.answer.wait_for(Option::is_some).await;
            answer
                .ok()
                .and_then(|answer| answer.clone())
                .unwrap_or(Err(Failed))
        };
        let Some(stale) = self.stale else {
            return answer().await.map(|packed| (packed, Age::Fresh(Duration::ZERO)));
        };
        match timeout(CLIENT_PATIENCE, answer()).await {
            Ok(Ok(packed)) if packed.is_conclusive() => Ok((packed, Age::Fresh(Duration::ZERO))),
            _ => Ok((stale, Age::Stale)),
        }
    }
}
