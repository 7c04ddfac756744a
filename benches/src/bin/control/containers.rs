//! How soon what a container engine says is in the kernel's tables and in the answers of the name server: one container among
//! a thousand turns unhealthy. Engine (simulated, as recorded), source, writer, plane and names are those of an agent, in this
//! process; there are no programs, for nobody sends packets.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::input::{HERE, agreed};
use benches::sample::Sample;
use engine::{Container, Engine};
use lb_userspace::config::Config;
use lb_userspace::model::{Drains, Snapshot, Standing, View, Writer};
use lb_userspace::names::NameServer;
use lb_userspace::plane::EbpfPlane;
use lb_userspace::source::kept::Kept;
use lb_userspace::source::{docker, engine as source};
use netns::tool;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::PINS;
use crate::report::Row;

/// Replicas of each service.
const REPLICAS: u32 = 10;
/// Where the name server answers here.
const NAMES: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 5300);
/// For one change, at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions: whoever asks without a pause takes the processor from who is to answer.
const PAUSE: Duration = Duration::from_micros(200);

/// Containers of Compose projects, ten to a service.
pub fn containers(count: u32) -> impl Iterator<Item = Container> {
    (0..count).map(|number| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 18, 1, 0)) + number);
        let project = project(number / REPLICAS);
        let mut container = Container::of_compose(&project, "web", number % REPLICAS + 1, address.into());
        container.exposed.push("80/tcp".into());
        container
    })
}

fn project(number: u32) -> String {
    format!("p{number}")
}

/// One change after another, each of another container: to the tables, and to the answer.
pub fn measure(runtime: &Runtime, count: u32, changes: usize) -> Result<Vec<Row>> {
    tool::run(std::process::Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let directory = format!("{PINS}-run/engine");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)?;
    let engine = Engine::start(&Path::new(&directory).join("docker.sock"))?;
    engine.put(containers(count));
    let began = Instant::now();
    let mut agent = Agent::start(runtime, &engine, &directory)?;
    agent.until(runtime, |snapshot| {
        snapshot.services.len() as u32 == count / REPLICAS
    })?;
    let first: Sample = [milliseconds(began.elapsed())].into_iter().collect();
    let (ask, answers) = asker();
    let (mut tables, mut names) = (Sample::default(), Sample::default());
    // Each service loses half of its tasks at most.
    for change in 0..changes.min(count as usize / 2) as u32 {
        let services = count / REPLICAS;
        let (service, lost) = (change % services, change / services);
        let name = format!("{}_web", project(service));
        let task = format!("{name}_{}", lost + 1);
        let mut container = engine
            .container(&task)
            .with_context(|| format!("there is no {task}"))?;
        container.health = Some("unhealthy".into());
        let question = format!("tasks.{name}.portico.internal");
        ask.send((question, (REPLICAS - lost - 1) as u16))?;
        // Asked once already: the clock runs for the change alone.
        std::thread::sleep(Duration::from_millis(5));
        let began = Instant::now();
        engine.change(container, "health_status: unhealthy");
        agent.until(runtime, |snapshot| {
            let mut backends = snapshot.services[&*name].backends.iter();
            backends.any(|backend| {
                // The task's name, and the container's number.
                let (name, _) = backend.task.rsplit_once('.').unwrap_or_default();
                name == task && backend.standing == Standing::Unhealthy
            })
        })?;
        tables.add(milliseconds(began.elapsed()));
        let answered = answers.recv_timeout(PATIENCE)??;
        names.add(milliseconds(answered.saturating_duration_since(began)));
    }
    agent.stop();
    let name = |what: &str| format!("{count} containers: {what}");
    Ok(vec![
        Row::new(&name("from the start to all in the tables"), first, ""),
        Row::of_a_change(&name("one turns unhealthy, to the tables"), tables, ""),
        Row::of_a_change(&name("the same, to the answer of DNS"), names, ""),
    ])
}

/// Source, writer, plane and names of one agent.
struct Agent {
    view: View,
    plane: EbpfPlane,
    applied: watch::Sender<u64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _names: NameServer,
}

impl Agent {
    fn start(runtime: &Runtime, engine: &Engine, directory: &str) -> Result<Self> {
        let (address, port) = NAMES;
        let text = format!(
            "node = \"{HERE}\"\naddress = \"192.0.2.1\"\n[dns]\nlisten = [\"{address}:{port}\"]\nupstreams = []\nrate = 0\n\
             [cgroup]\nattach = false\n[paths]\npins = \"{PINS}/engine\"\nruntime = \"{directory}\"\n"
        );
        let config = Config::parse(Path::new("portico.toml"), &text)?;
        let _inside = runtime.enter();
        let (writer, _) = Writer::start(agreed(), [docker::NAME.into()], Drains::default());
        let plane = runtime.block_on(EbpfPlane::start(&config))?;
        let names = NameServer::start(&config).map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        let (applied, heard) = watch::channel(0);
        let following = tokio::spawn(Arc::clone(names.names()).follow(writer.view(), heard));
        let (engine, listening) = source::Engine::start(engine.socket().to_owned());
        let (_, reading) = docker::start(docker::Setup {
            engine,
            node: HERE.into(),
            address: config.address,
            interfaces: config.interfaces.clone(),
            writer: writer.clone(),
            kept: Kept::new(&config.paths.runtime, docker::NAME),
        });
        Ok(Self {
            view: writer.view(),
            plane,
            applied,
            tasks: vec![following, listening, reading],
            _names: names,
        })
    }

    /// Carries out snapshots, as the agent does it, up to the first like this.
    fn until(&mut self, runtime: &Runtime, wanted: impl Fn(&Snapshot) -> bool) -> Result<()> {
        runtime.block_on(async {
            loop {
                let Ok(changed) = tokio::time::timeout(PATIENCE, self.view.changed()).await else {
                    bail!("no snapshot shows the change within {PATIENCE:?}");
                };
                let snapshot = changed?;
                let (plane, next) = (self.plane.clone(), Arc::clone(&snapshot));
                tokio::task::spawn_blocking(move || plane.apply(&next)).await??;
                self.applied.send_replace(snapshot.generation);
                if wanted(&snapshot) {
                    return Ok(());
                }
            }
        })
    }

    fn stop(self) {
        for task in self.tasks {
            task.abort();
        }
    }
}

/// What is asked, and how many addresses shall come; when they came.
type Asked = (Sender<(String, u16)>, Receiver<Result<Instant>>);

/// A client that asks until the answer is as expected.
fn asker() -> Asked {
    let (ask, questions) = channel::<(String, u16)>();
    let (tell, answers) = channel();
    std::thread::spawn(move || {
        for (name, expected) in questions {
            if tell.send(answer(&name, expected)).is_err() {
                return;
            }
        }
    });
    (ask, answers)
}

fn answer(name: &str, expected: u16) -> Result<Instant> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(NAMES)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let question = question(name);
    let patience = Instant::now() + PATIENCE;
    let mut buffer = [0; 1232];
    while Instant::now() < patience {
        socket.send(&question)?;
        let length = socket.recv(&mut buffer).unwrap_or(0);
        if length > 12 && u16::from_be_bytes([buffer[6], buffer[7]]) == expected {
            return Ok(Instant::now());
        }
        std::thread::sleep(PAUSE);
    }
    bail!("{name} has not come to {expected} addresses")
}

/// A question for IPv4 addresses (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
