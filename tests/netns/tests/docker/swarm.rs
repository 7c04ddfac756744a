//! Swarms of three real engines, whose published ports, VIPs and names only Portico answers: this machine has no IPVS.

mod everyday;
mod hostnet;
mod managers;
mod stack;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::ensure;
use netns::client::http::Connection;
use netns::client::load::{Load, Plan};
use netns::client::report::Report;
use netns::client::{http, udp};
use netns::engine::IMAGE;
use netns::testing::{self, Stage};
use netns::{address, wait};
use serde_json::Value;

/// Far more than an engine, a manager and an agent take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Answers say which task of the swarm they are of, as Portico calls it.
const IDENTITY: [&str; 6] = [
    "--env",
    "SERVICE={{.Service.Name}}",
    "--env",
    "TASK={{.Task.Name}}",
    "--env",
    "NODE={{.Node.Hostname}}",
];

/// A swarm, an agent on each of its nodes, and the client outside.
pub struct Swarm {
    pub cluster: Stage,
    /// Who is told what to do.
    pub manager: String,
}

impl Swarm {
    /// Of three nodes, the first of which manage it. The agents were there before.
    pub fn make(name: &str, managers: usize) -> Option<Self> {
        let cluster = testing::cluster(name).engines().stage()?;
        Some(Self::of(cluster, managers))
    }

    /// The same of engines that are there.
    pub fn of(cluster: Stage, managers: usize) -> Self {
        let began = Instant::now();
        cluster.make_swarm(managers).unwrap();
        println!("the swarm took {:?}", began.elapsed());
        Self {
            cluster,
            manager: "node1".to_owned(),
        }
    }

    /// `docker ARGUMENTS` at the manager.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.cluster.docker(&self.manager, arguments).unwrap()
    }

    /// `docker service create` of the task program.
    pub fn create(&self, name: &str, options: &[&str]) {
        self.create_with(name, options, &[]);
    }

    /// The same with arguments for the program.
    pub fn create_with(&self, name: &str, options: &[&str], arguments: &[&str]) {
        let create = [
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            name,
        ];
        self.docker(&[&create[..], &IDENTITY, options, &[IMAGE], arguments].concat());
    }

    pub fn scale(&self, service: &str, replicas: usize) {
        self.docker(&["service", "scale", "--detach", &format!("{service}={replicas}")]);
    }

    /// The service is gone everywhere within two seconds: whoever asks for its port is told so at once.
    pub fn remove(&self, service: &str, port: u16) {
        self.docker(&["service", "rm", service]);
        let removed = Instant::now();
        let client = self.cluster.client();
        for target in self.ports(port) {
            let refused = || {
                let answer = client.run(|| Connection::open(target, None).map(drop)).unwrap();
                answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
            };
            wait::until("the port is closed", PATIENCE, refused).unwrap();
        }
        let took = removed.elapsed();
        println!("after docker service rm {service} every node refused within {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    /// Tasks that the swarm wants to run and that do, with their nodes.
    pub fn running(&self, service: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let format = "{{.Name}}.{{.ID}} {{.Node}} {{.CurrentState}}";
        let filter = "desired-state=running";
        let arguments = [
            "service",
            "ps",
            "--no-trunc",
            "--filter",
            filter,
            "--format",
            format,
            service,
        ];
        let said = self.cluster.docker(&self.manager, &arguments)?;
        let line = |line: &str| {
            let mut words = line.split(' ');
            let (task, node, state) = (words.next()?, words.next()?, words.next()?);
            (state == "Running").then(|| (task.to_owned(), node.to_owned()))
        };
        Ok(said.lines().filter_map(line).collect())
    }

    /// Waits until so many tasks run, and until every agent sends new connections to them and to no others.
    pub fn wait_served(&self, service: &str, tasks: usize) -> BTreeMap<String, String> {
        let nodes = self.cluster.agents();
        self.wait_served_by(&nodes, service, tasks)
    }

    /// The same for the agents of some nodes.
    pub fn wait_served_by<N: AsRef<str>>(
        &self,
        nodes: &[N],
        service: &str,
        tasks: usize,
    ) -> BTreeMap<String, String> {
        let began = Instant::now();
        let mut ran = None;
        // Anew each time: a swarm may still think better of it.
        let all_serve = || -> anyhow::Result<_> {
            let running = self.running(service)?;
            ensure!(running.len() == tasks, "they are {running:?}");
            ran.get_or_insert_with(|| began.elapsed());
            for node in nodes {
                self.serves(node.as_ref(), service, &running)?;
            }
            Ok(Some(running))
        };
        let what = format!("{service} is served by its {tasks} tasks");
        let (running, served) = wait::until_some(&what, PATIENCE, all_serve).unwrap();
        println!(
            "{service}={tasks}: all ran after {:?}, and were served after {served:?}",
            ran.unwrap_or_default()
        );
        running
    }

    /// Whether a node sends new connections to these tasks and to no others.
    fn serves(&self, node: &str, service: &str, running: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let there = self.states(node, service)?;
        ensure!(
            active(&there) == running.keys().cloned().collect(),
            "{node} has {there:?} instead of {running:?}"
        );
        self.caught_up(node)
    }

    /// What a node says of the tasks of a service.
    pub fn states(&self, node: &str, service: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let rows = self.cluster.portico_json(node, &["backend", "ls"])?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        Ok(rows
            .iter()
            .filter(|row| row["service"] == service)
            .map(|row| (word(row, "task"), word(row, "state")))
            .collect())
    }

    /// Whether a node's tables are those of its latest picture, and its tasks all found.
    fn caught_up(&self, node: &str) -> anyhow::Result<()> {
        let status = self.cluster.portico_json(node, &["status"])?;
        for plane in status["planes"].as_array().into_iter().flatten() {
            let report = &plane["report"];
            let applied = report["generation"].as_u64();
            ensure!(applied >= status["generation"].as_u64(), "{plane} lags behind");
            let missing = &report["unhooked"];
            ensure!(
                missing.as_array().is_none_or(Vec::is_empty),
                "{missing} are missing"
            );
        }
        Ok(())
    }

    /// A port of every node, as the client asks for it. Tasks of a swarm have IPv4 alone.
    pub fn ports(&self, port: u16) -> Vec<SocketAddr> {
        let nodes = self.cluster.nodes();
        nodes.iter().map(|node| self.port_of(node, port)).collect()
    }

    pub fn port_of(&self, node: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.cluster.state.nodes[node].address(0).v4.into(), port)
    }

    /// Every node leads the client to every one of these tasks, and to no other, over TCP and UDP where `udp` says so. They see
    /// the client's own address.
    pub fn every_node_answers<'t>(&self, port: u16, tasks: impl IntoIterator<Item = &'t String>, udp: bool) {
        let tasks: BTreeSet<String> = tasks.into_iter().cloned().collect();
        let client = self.cluster.client();
        let began = Instant::now();
        std::thread::scope(|scope| {
            for target in self.ports(port) {
                let (client, tasks) = (&client, &tasks);
                scope.spawn(move || {
                    answers(tasks, target, || {
                        let answer = http::ask(client, target)?;
                        Ok((answer.task, answer.client))
                    });
                    if udp {
                        answers(tasks, target, || udp::ask(client, target));
                    }
                });
            }
        });
        println!(
            "every node answered at {port} as it should, asked for {:?}",
            began.elapsed()
        );
    }

    /// Asks all nodes, on new connections and on some that are kept.
    pub fn load(&self, port: u16) -> Loads {
        self.load_on(&self.ports(port))
    }

    pub fn load_on(&self, targets: &[SocketAddr]) -> Loads {
        let client = self.cluster.client();
        let plan = Plan {
            workers: 16,
            ..Plan::new_connections(targets, 80.0)
        };
        let loads = Loads {
            new: plan.start(&client),
            kept: Plan::keep_alive(targets, 40.0).start(&client),
        };
        loads.go_on();
        loads
    }

    /// What a node says is wrong with where its services come from.
    pub fn complaints(&self, node: &str) -> anyhow::Result<Vec<String>> {
        let status = self.cluster.portico_json(node, &["status"])?;
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        let said = sources.iter().filter_map(|source| {
            Some(format!(
                "{}: {}",
                source["name"].as_str()?,
                source["error"].as_str()?
            ))
        });
        Ok(said.collect())
    }

    /// Waits until a node complains of its sources in words that contain these.
    pub fn wait_complaint(&self, node: &str, words: &str) -> String {
        let what = format!("{node} says {words:?}");
        let ask = || -> anyhow::Result<_> {
            let all = self.complaints(node)?;
            let found = all.iter().find(|one| one.contains(words)).cloned();
            ensure!(found.is_some(), "it says {all:?}");
            Ok(found)
        };
        let (said, took) = wait::until_some(&what, PATIENCE, ask).unwrap();
        println!("{node} said after {took:?}: {said}");
        said
    }

    /// Waits until a node is content with its sources.
    pub fn wait_content(&self, node: &str) {
        let what = format!("{node} has its sources");
        let ask = || -> anyhow::Result<_> {
            let all = self.complaints(node)?;
            ensure!(all.is_empty(), "it says {all:?}");
            Ok(Some(()))
        };
        wait::until_some(&what, PATIENCE, ask).unwrap();
    }
}

/// Asks until all have answered, and often enough to meet a stranger.
fn answers(tasks: &BTreeSet<String>, target: SocketAddr, ask: impl Fn() -> anyhow::Result<(String, IpAddr)>) {
    let mut answered = BTreeSet::new();
    for number in 0..30 + 20 * tasks.len() {
        if number >= 30 && answered == *tasks {
            break;
        }
        let (task, seen) = ask().unwrap_or_else(|error| panic!("{target}: {error:#}"));
        assert_eq!(seen, address::CLIENT.v4, "as {task} sees it");
        answered.insert(task);
    }
    assert_eq!(answered, *tasks, "{target}");
}

/// Those that take new connections.
pub fn active(states: &BTreeMap<String, String>) -> BTreeSet<String> {
    let active = states.iter().filter(|(_, state)| **state == "active");
    active.map(|(task, _)| task.clone()).collect()
}

/// Requests that go on while the swarm changes.
pub struct Loads {
    pub new: Load,
    pub kept: Load,
}

impl Loads {
    /// Waits until something was asked after whatever changed.
    pub fn go_on(&self) {
        self.new.wait_for(60).unwrap();
        self.kept.wait_for(30).unwrap();
    }

    pub fn stop(self, what: &str) -> [Report; 2] {
        let reports = [self.new, self.kept].map(|load| load.stop().unwrap());
        for (kind, report) in ["new connections", "kept connections"].iter().zip(&reports) {
            println!(
                "{what}, {kind}: {} requests on {} connections, {} failed, the slowest took {:?}",
                report.requests(),
                report.connections,
                report.failures.len(),
                report.slowest
            );
        }
        reports
    }

    /// Nothing failed; gives who answered.
    pub fn stop_flawless(self, what: &str) -> BTreeSet<String> {
        let reports = self.stop(what);
        let mut tasks = BTreeSet::new();
        for report in reports {
            report.assert_flawless();
            assert_eq!(
                report.clients.iter().collect::<Vec<_>>(),
                [&IpAddr::from(address::CLIENT.v4)],
                "tasks see the client itself"
            );
            tasks.extend(report.tasks().into_iter().map(str::to_owned));
        }
        tasks
    }
}
