//! Which sources there are, and their start. None holds another back: each speaks at once, if only what it kept.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Enabled};
use crate::door::Door;
use crate::model::Writer;
use crate::source::engine::Engine;
use crate::source::kept::Kept;
use crate::source::stream::Figures;
use crate::source::swarm::follow as swarm;
use crate::source::swarm::ways;
use crate::source::{self, SourceReport, docker, file};

/// What the configuration asks for, and what is there.
pub struct Chosen {
    file: Option<PathBuf>,
    engine: Option<PathBuf>,
    /// What its engine's swarm wants is followed, too.
    swarm: bool,
}

/// Sources that run.
pub struct Started {
    /// In the order in which they go before each other.
    pub reports: Vec<watch::Receiver<SourceReport>>,
    pub tasks: Vec<JoinHandle<()>>,
    /// What the stream between agents does, where a source has it.
    pub stream: Option<Arc<Figures>>,
}

impl Chosen {
    pub fn of(config: &Config) -> Self {
        // Asked once: a socket may appear between two looks.
        let engine = config.sources.engine();
        Self {
            file: config.sources.file(),
            swarm: engine.is_some() && config.sources.swarm.enabled != Enabled::Never,
            engine,
        }
    }

    /// Of what two sources claim the earlier gets it. Containers of this node alone come last: VIPs of all other services are
    /// the same on every node then.
    pub fn names(&self) -> Vec<Arc<str>> {
        let file = self.file.is_some().then_some(file::NAME);
        let docker = self.engine.is_some().then_some(docker::NAME);
        let swarm = self.swarm.then_some(source::swarm::NAME);
        [file, swarm, docker]
            .into_iter()
            .flatten()
            .map(Arc::from)
            .collect()
    }

    pub fn start(self, config: &Config, node: &Arc<str>, writer: &Writer, door: &Door) -> Started {
        let (mut reports, mut tasks) = (Vec::new(), Vec::new());
        let stream = self.swarm.then(Arc::<Figures>::default);
        if let Some(path) = self.file {
            let (report, following) = file::start(path, &config.paths.runtime, writer.clone());
            reports.push(report);
            tasks.push(following);
        }
        if self.engine.is_none() && config.sources.swarm.enabled == Enabled::Always {
            reports.push(without_engine());
        }
        if let Some(socket) = self.engine {
            let (engine, listening) = Engine::start(socket);
            if let Some(figures) = &stream {
                let stream = ways::Stream {
                    port: config.peer.port,
                    door: door.clone(),
                    certificates: config.sources.swarm.certificates.clone(),
                    figures: Arc::clone(figures),
                };
                let (report, following) = start_swarm(&engine, config, node, writer, stream);
                reports.push(report);
                tasks.push(following);
            }
            let (report, following) = docker::start(docker::Setup {
                engine,
                node: Arc::clone(node),
                address: config.address,
                interfaces: config.interfaces.clone(),
                writer: writer.clone(),
                kept: Kept::new(&config.paths.runtime, docker::NAME),
            });
            reports.push(report);
            tasks.extend([listening, following]);
        }
        Started {
            reports,
            tasks,
            stream,
        }
    }
}

/// A swarm is asked for, and no engine is followed that could be in one.
fn without_engine() -> watch::Receiver<SourceReport> {
    let mut report = SourceReport::new(source::swarm::NAME, "no container engine is followed");
    report.error = Some(
        "no container engine is followed that could be in a swarm\n  traffic: the other sources are served\n  fix: start \
         the engine and restart the agent, or set sources.docker.socket, or sources.swarm.enabled = \"auto\""
            .into(),
    );
    watch::channel(report).1
}

fn start_swarm(
    engine: &Engine,
    config: &Config,
    node: &Arc<str>,
    writer: &Writer,
    stream: ways::Stream,
) -> (watch::Receiver<SourceReport>, JoinHandle<()>) {
    let setup = swarm::Setup {
        node: Arc::clone(node),
        required: config.sources.swarm.enabled == Enabled::Always,
        local: engine.local(),
        moved: engine.moved(),
        writer: writer.clone(),
        ways: ways::Outside::new(engine.clone(), Arc::clone(node), stream),
    };
    swarm::start(setup, &config.paths.runtime)
}
