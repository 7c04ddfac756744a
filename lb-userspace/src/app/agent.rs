//! What the control socket asks the agent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::planes::Planes;
use crate::api::facts::{Note, Peer, Source};
use crate::api::{Agent, Facts, Problem};
use crate::config::Config;
use crate::health::HealthReport;
use crate::model::writer::DrainError;
use crate::model::{DrainObject, Identity, Writer};
use crate::names::NameServer;
use crate::names::report::{DnsAnswer, DnsQuestion, NamesReport};
use crate::peer::{PeerReport, PeerReports, Presence};
use crate::plane::{self, Difference, ProxyPlane, Question, TraceReport};
use crate::source::{self, SourceReport, stream};

/// The agent's parts, as far as the control socket needs them.
pub struct Handle {
    node: Arc<str>,
    seed: u64,
    identity: Identity,
    writer: Writer,
    planes: Arc<Planes>,
    names: NamesState,
    reports: Reports,
    runtime: tokio::runtime::Handle,
}

/// The latest word of each part that reports.
pub struct Reports {
    /// In the order of the configuration.
    pub sources: Vec<watch::Receiver<SourceReport>>,
    pub health: watch::Receiver<Arc<HealthReport>>,
    pub peers: watch::Receiver<PeerReports>,
    /// Of the stream between agents, where one of the sources has it.
    pub stream: Option<Arc<stream::Figures>>,
}

/// The name server, or why there is none.
pub enum NamesState {
    Running(Box<NameServer>),
    Missing(plane::Problem),
    /// Nobody has asked for one.
    Off,
}

impl Handle {
    pub fn new(
        config: &Config,
        seed: u64,
        identity: Identity,
        writer: Writer,
        planes: Arc<Planes>,
        names: NamesState,
        reports: Reports,
    ) -> Self {
        Self {
            node: config.node.as_str().into(),
            seed,
            identity,
            writer,
            planes,
            names,
            reports,
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl Agent for Handle {
    fn facts(&self) -> Facts {
        let planes = self.planes.report();
        Facts {
            node: Arc::clone(&self.node),
            seed: self.seed,
            identity: self.identity.clone(),
            snapshot: self.writer.view().current(),
            flows: self.planes.flows(&planes),
            planes,
            here: self.planes.here().clone(),
            sources: self
                .reports
                .sources
                .iter()
                .map(|report| source(&report.borrow()))
                .collect(),
            conflicts: self.writer.conflicts().to_vec(),
            peers: self.reports.peers.borrow().iter().map(peer).collect(),
            names: self.names.report(self.planes.proxy()),
            stream: self.reports.stream.as_deref().map(stream::Figures::report),
            health: failing(&self.reports.health.borrow()),
        }
    }

    fn trace(&self, question: &Question) -> Result<TraceReport, Problem> {
        self.planes.ebpf()?.trace(question).map_err(Problem::of)
    }

    fn ask(&self, question: DnsQuestion) -> Result<DnsAnswer, Problem> {
        let failed = || Problem::new("cannot ask the name server");
        let names = match &self.names {
            NamesState::Running(names) => names,
            NamesState::Missing(problem) => return Err(problem.into()),
            NamesState::Off => {
                return Err(failed()
                    .because("this agent serves no names")
                    .fix("set [dns] listen in portico.toml and restart it"));
            }
        };
        let answer = self.runtime.block_on(names.ask(question));
        answer.map_err(|error| failed().because(error).fix("correct the question"))
    }

    fn mark(&self, object: &DrainObject, drained: bool) -> Result<(), Problem> {
        let command = self.writer.drain(object.clone(), drained);
        self.runtime.block_on(command).map(drop).map_err(|error| {
            let problem = Problem::new(format!("cannot mark {object}")).because(error);
            match error {
                DrainError::Refused(refusal) => problem.fix(refusal.remedy()),
                DrainError::Stopped(_) => problem,
            }
        })
    }

    fn differences(&self) -> Result<Vec<Difference>, Problem> {
        self.planes.ebpf()?.check().map_err(Problem::of)
    }

    fn sockets(&self) -> Result<BTreeSet<u64>, Problem> {
        let sockets = self.runtime.block_on(self.planes.proxy().identities());
        sockets.map_err(|error| Problem::new("cannot list the proxy's sockets").because(error))
    }
}

impl NamesState {
    /// Addresses that no device has may be this node's by the proxy's routes.
    fn report(&self, proxy: &ProxyPlane) -> Option<NamesReport> {
        match self {
            Self::Running(names) => {
                let mut report = names.report();
                for listening in &mut report.listening {
                    listening.present |= proxy.has_route(listening.address.ip());
                }
                Some(report)
            }
            Self::Missing(problem) => Some(NamesReport {
                problems: vec![problem.clone()],
                ..NamesReport::default()
            }),
            Self::Off => None,
        }
    }
}

/// What the latest probe of each failing backend found.
fn failing(report: &HealthReport) -> HashMap<u64, String> {
    let found = |tag: &u64| report.checks.get(tag).map(|check| (*tag, check.last.clone()));
    report.unhealthy.iter().filter_map(found).collect()
}

fn peer((node, report): (&Arc<str>, &PeerReport)) -> Peer {
    Peer {
        node: node.to_string(),
        heard_ms: report.heard.map(|heard| heard.elapsed().as_millis() as u64),
        suspected: report.presence == Presence::Suspected,
        away: report.presence == Presence::Away,
    }
}

fn source(report: &SourceReport) -> Source {
    let age = report.loaded.and_then(|loaded| loaded.elapsed().ok());
    Source {
        name: report.name.into(),
        place: report.place.clone(),
        age_ms: report.loaded.map(|_| age.map_or(0, |age| age.as_millis() as u64)),
        error: report.error.clone(),
        notes: report.notes.iter().map(note).collect(),
    }
}

fn note(note: &source::Note) -> Note {
    Note {
        service: note.service.as_deref().map(str::to_owned),
        problem: Problem::new(&note.what).traffic(&note.consequence).fix(&note.fix),
    }
}
