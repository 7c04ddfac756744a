//! The name server at work: threads, sockets, what is reported about them.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use dns::{Directory, Handler, Server};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::report::{Listening, NamesReport, Times, Took, Upstream, UpstreamState};
use super::visibility::own_addresses;
use super::{Names, resolv_conf};
use crate::config::{Config, Dns};
use crate::plane::Problem;

/// What is asked before the names are known waits for so long: less than a client does.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether they are.
const LOOK: Duration = Duration::from_millis(5);
/// Before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The name server of `[dns]`. Its sockets are closed when it is dropped.
pub struct NameServer {
    names: Arc<Names>,
    pub(super) handler: Handler,
    config: dns::Config,
    sockets: Arc<Sockets>,
    _threads: Threads,
}

/// Threads of its own: however many questions come, heartbeats do not wait behind them.
struct Threads(Option<Runtime>);

/// Which of the configured addresses are listened on.
struct Sockets(Mutex<Vec<Listening>>);

impl NameServer {
    /// Takes the addresses that can be had, tries again for the others, and answers as soon as its [`Self::names`] know
    /// something.
    pub fn start(config: &Config) -> Result<Self, Problem> {
        let told = dns::Config {
            // The device that has the address may come later, as bridges of containers do.
            freebind: true,
            ..config.dns.server(&upstreams(&config.dns))
        };
        let threads = Threads::start().map_err(|error| failed(&error))?;
        let listen = told.listen.iter().map(SocketAddr::ip);
        let names = Names::new(&config.node, listen, told.cluster.is_some());
        let names = names.with_pools(&config.vip.pool);
        let names = Arc::new(match config.sources.engine() {
            Some(_) => names.with_newcomers(),
            None => names,
        });
        let entered = threads.0.as_ref().map(Runtime::enter);
        let mut server =
            Server::new(&told, Arc::clone(&names) as Arc<dyn Directory>).map_err(|error| failed(&error))?;
        let sockets = Arc::new(Sockets::new(&told.listen));
        // What is asked from now on waits in the sockets.
        sockets.listen(&mut server);
        let handler = server.handler();
        tokio::spawn(keep(server, Arc::clone(&sockets), Arc::clone(&names)));
        drop(entered);
        Ok(Self {
            names,
            handler,
            config: told,
            sockets,
            _threads: threads,
        })
    }

    /// What it answers from; somebody has to [follow](Names::follow) the snapshots with it.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Whether anybody is asked for names of others.
    pub(super) fn forwards(&self) -> bool {
        !self.config.forward.upstreams.is_empty() || !self.config.forward.domains.is_empty()
    }

    pub fn report(&self) -> NamesReport {
        let mut listening = self.sockets.lock().clone();
        let own = own_addresses();
        for listening in &mut listening {
            listening.present = is_present(listening.address.ip(), &own);
        }
        let upstreams: Vec<_> = self.handler.upstreams().into_iter().map(upstream).collect();
        let statistics = self.handler.statistics();
        let took = |latency: &dns::Latency| Took {
            queries: latency.count.get(),
            seconds: latency.nanoseconds.get() as f64 / 1e9,
        };
        NamesReport {
            domain: self.config.domain.clone(),
            cluster_domain: self.config.cluster.clone(),
            generation: self.names.generation(),
            problems: problems(&listening, &upstreams),
            listening,
            upstreams,
            counters: statistics
                .counters()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            took: Times {
                here: took(&statistics.here),
                upstream: took(&statistics.forwarded),
            },
        }
    }
}

impl Threads {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(available_parallelism().map_or(1, usize::from))
            .thread_name("names")
            // As urgent as other servers on this machine; the agent's own threads come before.
            .on_thread_start(|| {
                let _ = rustix::process::setpriority_process(None, 0);
            })
            .enable_all()
            .build();
        runtime.map(|runtime| Self(Some(runtime)))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not waited for: they are dropped on a thread that has other work to do.
            runtime.shutdown_background();
        }
    }
}

impl Sockets {
    fn new(wanted: &[SocketAddr]) -> Self {
        let wanted = wanted.iter().map(|address| Listening {
            address: *address,
            error: Some("not tried yet".into()),
            present: false,
        });
        Self(Mutex::new(wanted.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries those that are not listened on yet; whether all are now.
    fn listen(&self, server: &mut Server) -> bool {
        let mut complete = true;
        for listening in self
            .lock()
            .iter_mut()
            .filter(|listening| listening.error.is_some())
        {
            match server.listen(listening.address) {
                Ok(address) => {
                    tracing::info!(%address, "names are asked for here");
                    listening.error = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if listening.error.as_deref() != Some(&*error) {
                        tracing::warn!(%error, "tried again each second");
                    }
                    listening.error = Some(error);
                    complete = false;
                }
            }
        }
        complete
    }
}

/// Opens the server when its names are known, or the first clients would give up; then tries what could not be had.
async fn keep(mut server: Server, sockets: Arc<Sockets>, names: Arc<Names>) {
    let started = Instant::now();
    while !names.ready() && started.elapsed() < PATIENCE {
        sleep(LOOK).await;
    }
    server.open();
    while !sockets.listen(&mut server) {
        sleep(AGAIN).await;
    }
    // The server lives as long as its runtime.
    std::future::pending::<()>().await;
}

/// Who is asked for names that are neither the mesh's nor routed: what the configuration says, or the node's own servers.
pub fn upstreams(dns: &Dns) -> Vec<SocketAddr> {
    match &dns.upstreams {
        Some(upstreams) => upstreams.clone(),
        None => resolv_conf::upstreams(&dns.listen, &own_addresses()),
    }
}

/// Whether a device of this node has it.
pub fn has_address(ip: IpAddr) -> bool {
    is_present(ip, &own_addresses())
}

fn is_present(ip: IpAddr, own: &HashSet<IpAddr>) -> bool {
    ip.is_unspecified() || ip.is_loopback() || own.contains(&ip)
}

/// Whether an address could be listened on now. Within a runtime.
pub fn try_address(address: SocketAddr) -> Result<(), String> {
    let config = dns::Config {
        freebind: true,
        ..dns::Config::default()
    };
    let mut server =
        Server::new(&config, Arc::new(Names::new("", [], false))).map_err(|error| error.to_string())?;
    server
        .listen(address)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    Problem {
        error: format!("cannot serve names: {error}"),
        traffic: "this node answers no names; all else flows".into(),
        fix: "correct [dns] in portico.toml and restart the agent".into(),
    }
}

fn upstream(report: dns::UpstreamReport) -> Upstream {
    Upstream {
        address: report.address,
        domain: Some(report.domain).filter(|domain| !domain.is_empty()),
        state: match report.standing {
            dns::Standing::Untried => UpstreamState::Untried,
            dns::Standing::Answers => UpstreamState::Answers,
            dns::Standing::Silent => UpstreamState::Silent,
            dns::Standing::Loops => UpstreamState::Loops,
        },
        usual_us: u64::try_from(report.usual.as_micros()).unwrap_or(u64::MAX),
    }
}

fn problems(listening: &[Listening], upstreams: &[Upstream]) -> Vec<Problem> {
    let deaf = listening.iter().filter_map(|listening| {
        Some(Problem {
            error: listening.error.clone()?,
            traffic: "whoever asks for names there gets no answer; connections flow".into(),
            fix: format!(
                "end what has the address (ss -lnp 'sport = :{}'), or change [dns] listen; it is tried again each second",
                listening.address.port()
            ),
        })
    });
    let useless = upstreams.iter().filter_map(|upstream| {
        let (what, fix) = match upstream.state {
            UpstreamState::Untried | UpstreamState::Answers => return None,
            UpstreamState::Silent => ("does not answer", "see that it runs and can be reached"),
            UpstreamState::Loops => (
                "passes our questions back to us",
                "take this agent's address out of its configuration",
            ),
        };
        let address = upstream.address;
        Some(Problem {
            error: format!("the name server {address} {what}"),
            traffic: match upstreams
                .iter()
                .any(|other| other.domain == upstream.domain && other.state == UpstreamState::Answers)
            {
                true => "names of others are asked of the other servers".into(),
                false => {
                    "names of others are answered from memory or not at all; those of the mesh are".into()
                }
            },
            fix: format!("{fix}, or set [dns] upstreams"),
        })
    });
    deaf.chain(useless).collect()
}
