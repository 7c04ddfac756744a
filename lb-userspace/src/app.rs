//! The agent: everything is wired here, and nothing is decided.
//!
//! ```text
//! sources ─> writer ─> snapshot ─┬─> plane, names
//! health ──────^                 ├─> health checks, heartbeats
//! peers ───────^                 └─> control socket
//! ```

mod agent;
mod carry;
mod planes;
mod replace;
mod sources;
mod stop;
mod stored;
mod successor;

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::socket::Socket;
use crate::api::{Agent, Problem, server};
use crate::config::{Cluster, Config};
use crate::door::Door;
use crate::handover::Rest;
use crate::model::{Agreed, Identity, Past, Protocol, Writer};
use crate::names::{NameServer, upstreams};
use crate::peer::planes::Programs;
use crate::peer::{self, drains};
use crate::plane::ProxyPlane;
use crate::plane::proxy::files;
use crate::plane::proxy::relay::{self, Relay};
use crate::plane::proxy::{Bind, Sockets};
use crate::telemetry;
use crate::{health, jobs};
use agent::{Handle, NamesState, Reports};
use planes::Planes;

/// Between ordinary work and the kernel's own.
const PRIORITY: i32 = -10;

/// Runs the agent until it is told to stop. Traffic of packet programs goes on afterwards: these and their maps stay in the
/// kernel. One that is replaced by another agent carries its proxy's connections until they are done.
pub fn run(config: Config) -> Result<(), Problem> {
    telemetry::log::start();
    hurry();
    files::raise();
    let stored = stored::given();
    let failed = |error| Problem::new("cannot start the agent").because(error);
    let work = runtime::Builder::new_multi_thread()
        // Control work only: packets never come here.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(failed)?;
    // Signals and the deadline are this thread's alone: whatever keeps the others busy, it hears them.
    let watch = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let mut signals = watch.block_on(async { stop::Signals::listen() })?;
    let (stop, stopping) = stop::channel();
    let agent = work.spawn(agent(config, stored, stopping));
    let outcome = watch.block_on(stop::attend(agent, stop, signals.end(reload)));
    // Nothing of what decides outlives this, whoever comes next.
    stop::end(work, stop::PATIENCE);
    let stop::Ended { left, told } = outcome?;
    let Some(rest) = left else {
        return Ok(());
    };
    let signal = async {
        if !told {
            signals.end(|| {}).await;
        }
    };
    watch
        .block_on(rest.finish(signal))
        .map_err(|error| Problem::new("cannot carry established connections on").because(error))
}

/// Whoever comes reads `portico.toml` anew; sources are watched all the time.
fn reload() {
    if let Err(error) = successor::start() {
        tracing::error!(%error, "SIGHUP: no successor can be started, this agent goes on");
    }
}

/// An agent that waits behind the machine's other work is late with its heartbeats, and then new connections avoid this
/// node. Threads made from here on inherit the priority.
fn hurry() {
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::info!(%error, "the agent's priority stays as it is; heartbeats may be late on a busy machine");
    }
}

/// What is left of it, if another agent has replaced it.
async fn agent(
    config: Config,
    stored: Sockets,
    stopping: impl Future<Output = ()>,
) -> Result<Option<Rest>, Problem> {
    let path = config.paths.socket();
    // Before anything that only one agent can have.
    let mut taken = replace::take(&config).await?;
    let kept = stored::kept(&stored, &taken.sockets);
    taken.sockets.fill(stored);
    let socket = Socket::bind(&path).map_err(|error| {
        Problem::new(format!("cannot open the control socket {}", path.display()))
            .because(error)
            .fix("end the other agent, or name another socket with --socket")
    })?;
    // Before all that takes time: what is asked from now on waits in its sockets.
    let names = start_names(&config);
    let keys = config.cluster.keys();
    let ebpf = planes::packet_programs(&config).await?;
    let identity = Identity::new(keys.identity);
    let node: Arc<str> = config.node.as_str().into();
    if let (Ok(plane), NamesState::Running(_)) = (&ebpf, &names) {
        plane.steer(&config.dns, &upstreams(&config.dns));
    }
    let (active, shapes) = match &ebpf {
        Ok(plane) => (plane.found_active(), plane.found_shapes()),
        Err(_) => Default::default(),
    };
    let mut by_proxy = peer::planes::load(&config.paths.runtime);
    let was_proxy = by_proxy.remove(&*config.node);
    let past = Past {
        drains: drains::load(&config.paths.runtime),
        active,
        shapes,
        by_proxy: by_proxy.clone(),
    };
    let agreed = Agreed {
        identity: identity.clone(),
        pools: config.vip.pool.clone(),
    };
    let sources = sources::Chosen::of(&config);
    let (writer, writing) = Writer::start(agreed, sources.names(), past);
    let keeping = drains::keep(&config.paths.runtime, writer.drains());
    let door = Bind {
        address: (Ipv4Addr::UNSPECIFIED, config.peer.port).into(),
        protocol: Protocol::Tcp,
    };
    let door = Door::given(door.address, taken.sockets.take(&door).pop());
    let sources = sources.start(&config, &node, &writer, &door);
    let relay = start_relay(&config, &keys, &writer)?;
    // Also where it serves nobody: it carries what other nodes want of this one's tasks.
    let beside = ebpf.as_ref().map(|plane| plane.beside()).unwrap_or_default();
    let proxy = ProxyPlane::start(&config, keys.seed, &relay, taken.sockets, beside).map_err(|error| {
        Problem::new("cannot start the proxy's threads")
            .because(error)
            .traffic("programs attached before go on")
    })?;
    let planes = Arc::new(Planes::new(&config, ebpf, proxy.clone()));
    let (health, checking) = health::start(Arc::clone(&node), writer.clone());
    let (applying, applied) = watch::channel(0);
    let alone = planes.here().is_proxy_alone();
    let knowing = peer::planes::keep(&config.paths.runtime, Arc::clone(&node), alone, writer.view());
    let heartbeats = peer::Setup {
        node,
        port: config.peer.port,
        mac: keys.mac,
        programs: Programs {
            never: alone,
            later: was_proxy,
            applied: applied.clone(),
        },
        by_proxy,
        writer: writer.clone(),
        health: health.clone(),
    };
    let (peers, beating) = peer::start(heartbeats).await.map_err(|error| {
        Problem::new(format!("cannot hear other agents on udp/{}", config.peer.port))
            .because(error)
            .traffic("programs attached before go on")
            .fix("end what has the port, or set [peer] port, the same on every node")
    })?;

    let mut tasks = JoinSet::new();
    tasks.spawn(replace::offer(door.clone(), relay, writer.view()));
    let apply = {
        let planes = Arc::clone(&planes);
        move |snapshot: &_| planes.apply(snapshot)
    };
    tasks.spawn(carry::carry_out(apply, writer.view(), applying));
    let storing = tokio::spawn(stored::keep(kept, proxy.clone(), door.clone()));
    if let NamesState::Running(names) = &names {
        tasks.spawn(Arc::clone(names.names()).follow(writer.view(), applied));
    }
    let reports = Reports {
        sources: sources.reports,
        health,
        peers,
        stream: sources.stream,
    };
    let handle = Arc::new(Handle::new(
        &config,
        keys.seed,
        identity,
        writer.clone(),
        planes,
        names,
        reports,
    ));
    for &address in &config.metrics.listen {
        tasks.spawn(telemetry::http::serve(
            address,
            Arc::clone(&handle) as Arc<dyn Agent>,
        ));
    }
    // The next agent finds this one from here on: only now the one before may let go.
    let heirs = replace::listen(&config);
    let before = replace::attend(taken.before, &proxy, &writer, &mut tasks);
    let (close, closing) = stop::channel();
    let mut serving = tokio::spawn(server::serve(socket, handle, closing));

    tracing::info!(node = config.node, socket = %path.display(), "the agent runs");
    notify(&[sd_notify::NotifyState::Ready]);
    let estate = replace::Estate {
        door: door.clone(),
        proxy: proxy.clone(),
        before,
    };
    let given = tokio::select! {
        () = stopping => None,
        given = estate.give(heirs) => Some(given),
        ended = &mut serving => {
            return Err(Problem::new("the control socket has failed").because(format!("{ended:?}")));
        }
    };
    // What is closed from here on, systemd shall keep.
    storing.abort();
    let _ = storing.await;
    replace::retire(&proxy, &door, given.is_some()).await;
    close.trigger();
    if tokio::time::timeout(stop::REQUESTS, serving).await.is_err() {
        tracing::warn!("a request on the control socket was cut off");
    }
    tasks.shutdown().await;
    let parts = [beating, checking, keeping, knowing, writing];
    for part in sources.tasks.into_iter().chain(parts) {
        part.abort();
    }
    // A snapshot that is half applied asks the kernel through what ends with the agent's threads.
    jobs::ended().await;
    Ok(given.map(|given| Rest::new(proxy, given, config.proxy.handover)))
}

/// A name server that cannot be is not worth ending the agent for.
fn start_names(config: &Config) -> NamesState {
    if config.dns.listen.is_empty() {
        return NamesState::Off;
    }
    match NameServer::start(config) {
        Ok(names) => NamesState::Running(Box::new(names)),
        Err(problem) => {
            tracing::error!("{problem}");
            NamesState::Missing(problem)
        }
    }
}

fn start_relay(config: &Config, keys: &Cluster, writer: &Writer) -> Result<Relay, Problem> {
    let setup = relay::Setup {
        node: config.node.as_str().into(),
        authority: keys.relay,
        port: config.peer.port,
        view: writer.view(),
        keepalive: config.proxy.keepalive,
    };
    Relay::new(setup).map_err(|error| {
        Problem::new("cannot make the certificate that other nodes know this one by")
            .because(error)
            .traffic("programs attached before go on")
    })
}

/// Tells systemd, where it started the agent; elsewhere nobody listens.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
