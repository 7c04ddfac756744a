//! Over an engine that has what a swarm would have, told as a manager tells it.

use engine::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::picture::picture;
use super::*;
use crate::model::Desired;

const NODES: usize = 3;
const SERVICES: usize = 2;

/// One slot of a service, or one node of a global one: the task in it, if any, and those that were there.
#[derive(Clone, Debug)]
struct Task {
    id: String,
    service: usize,
    slot: usize,
    node: usize,
    desired: &'static str,
    state: &'static str,
    created: u64,
    updated: u64,
}

/// A swarm that does what swarms do, one step after the other.
struct Swarm {
    clock: u64,
    tasks: Vec<Task>,
    services: [u64; SERVICES],
    /// State, and when it was written last.
    nodes: [(&'static str, u64); NODES],
}

/// What happens in a swarm.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The task in a slot is told to end, and a successor is to come.
    Replace,
    /// It ends by itself, and has a successor.
    Fail,
    /// A task goes on to its next state.
    Advance,
    /// A task that was told to end has ended.
    End,
    /// The oldest of those that ended is forgotten.
    Reap,
    /// A slot is taken away.
    Shrink,
    Grow,
    /// A task of an update that is taken back comes, runs and is told to end, between two looks.
    Glance,
    NodeDown,
    NodeReady,
    /// The tasks of nodes that are down are given up.
    Orphan,
}

impl Swarm {
    fn new(tasks: usize) -> Self {
        let mut swarm = Self {
            clock: 1,
            tasks: Vec::new(),
            services: [1; SERVICES],
            nodes: [("ready", 1); NODES],
        };
        for slot in 0..tasks {
            swarm.begin(slot % SERVICES, slot, "running", "running");
        }
        swarm
    }

    fn begin(&mut self, service: usize, slot: usize, desired: &'static str, state: &'static str) {
        self.clock += 1;
        self.tasks.push(Task {
            id: format!("{:025}", self.clock),
            service,
            slot,
            node: (slot + self.clock as usize) % NODES,
            desired,
            state,
            created: self.clock,
            updated: self.clock,
        });
    }

    /// The nth of the tasks of which this is true.
    fn find(&mut self, nth: usize, is_meant: impl Fn(&Task) -> bool) -> Option<&mut Task> {
        self.clock += 1;
        let mut meant: Vec<&mut Task> = self.tasks.iter_mut().filter(|task| is_meant(task)).collect();
        if meant.is_empty() {
            return None;
        }
        let task = meant.swap_remove(nth % meant.len());
        task.updated = self.clock;
        Some(task)
    }

    fn step(&mut self, step: Step, nth: usize) {
        let runs = |task: &Task| task.desired == "running";
        match step {
            Step::Replace | Step::Fail => {
                let Some(task) = self.find(nth, runs) else { return };
                task.desired = "shutdown";
                if matches!(step, Step::Fail) {
                    task.state = "failed";
                }
                let (service, slot) = (task.service, task.slot);
                self.begin(service, slot, "ready", "assigned");
            }
            Step::Advance => {
                let task = self.find(nth, |task| {
                    matches!(task.desired, "ready" | "running") && task.state != "running"
                });
                if let Some(task) = task {
                    (task.desired, task.state) = match (task.desired, task.state) {
                        ("ready", "assigned") => ("ready", "ready"),
                        ("ready", _) => ("running", "starting"),
                        _ => ("running", "running"),
                    };
                }
            }
            Step::End => {
                let ends =
                    |task: &Task| matches!(task.desired, "shutdown" | "remove") && task.state == "running";
                if let Some(task) = self.find(nth, ends) {
                    task.state = "shutdown";
                }
            }
            Step::Reap => {
                let ended = |task: &Task| {
                    matches!(task.desired, "shutdown" | "remove")
                        && !matches!(task.state, "running" | "assigned" | "ready")
                };
                if let Some(oldest) = self.tasks.iter().position(ended) {
                    self.tasks.remove(oldest);
                }
            }
            Step::Shrink => {
                if let Some(task) = self.find(nth, runs) {
                    task.desired = "remove";
                    let service = task.service;
                    self.services[service] = self.clock;
                }
            }
            Step::Grow => {
                self.begin(nth % SERVICES, nth, "running", "assigned");
                self.services[nth % SERVICES] = self.clock;
            }
            Step::Glance => {
                self.begin(nth % SERVICES, nth, "shutdown", "running");
                self.services[nth % SERVICES] = self.clock;
            }
            Step::NodeDown => {
                self.clock += 1;
                let node = nth % NODES;
                self.nodes[node] = ("down", self.clock);
                let lost = self.tasks.iter_mut().filter(|task| task.node == node);
                lost.for_each(|task| task.desired = "shutdown");
            }
            Step::NodeReady => {
                self.clock += 1;
                self.nodes[nth % NODES] = ("ready", self.clock);
            }
            Step::Orphan => {
                let down = self.nodes.map(|(state, _)| state == "down");
                if let Some(task) = self.find(nth, |task| down[task.node] && task.desired == "shutdown") {
                    task.state = "orphaned";
                }
            }
        }
    }

    fn tell(&self, engine: &Engine) {
        let nodes = self.nodes.iter().enumerate().map(|(node, (state, updated))| {
            json!({
                "ID": format!("n{node}"), "CreatedAt": time(1), "UpdatedAt": time(*updated),
                "Spec": { "Availability": "active", "Labels": {} }, "Description": { "Hostname": format!("node{node}") },
                "Status": { "State": state, "Addr": format!("192.0.2.{}", node + 1) },
            })
        });
        let services = self.services.iter().enumerate().map(|(service, updated)| {
            let port = json!({ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080 + service, "PublishMode": "ingress" });
            json!({
                "ID": format!("s{service}"), "CreatedAt": time(1), "UpdatedAt": time(*updated),
                "Spec": { "Name": format!("web{service}"), "Mode": { "Replicated": { "Replicas": 1 } },
                    "EndpointSpec": { "Ports": [port] } },
                "Endpoint": { "Ports": [port] },
            })
        });
        let mut tasks: Vec<&Task> = self.tasks.iter().collect();
        tasks.sort_by(|a, b| a.id.cmp(&b.id));
        let tasks = tasks.into_iter().map(|task| {
            json!({
                "ID": task.id, "CreatedAt": time(task.created), "UpdatedAt": time(task.updated),
                "ServiceID": format!("s{}", task.service), "Slot": task.slot + 1, "NodeID": format!("n{}", task.node),
                "Status": { "State": task.state }, "DesiredState": task.desired,
                "NetworksAttachments": [{ "Network": { "ID": "i", "Spec": { "Name": "ingress", "Ingress": true } },
                    "Addresses": [format!("10.0.0.{}/24", task.created % 250 + 2)] }],
            })
        });
        engine.answer("/nodes", nodes.collect::<Value>());
        engine.answer("/services", services.collect::<Value>());
        engine.answer("/tasks", tasks.collect::<Value>());
    }
}

fn time(second: u64) -> String {
    format!(
        "2026-11-20T{:02}:{:02}:{:02}Z",
        second / 3600 % 24,
        second / 60 % 60,
        second % 60
    )
}

fn start(directory: &tempfile::TempDir) -> (Engine, Socket) {
    let engine = Engine::start(&directory.path().join("docker.sock")).unwrap();
    engine.answer("/networks", json!([]));
    let socket = Socket::new(Arc::from(engine.socket()));
    (engine, socket)
}

#[tokio::test]
async fn tasks_that_ended_are_not_told_again_and_the_version_is_asked_for_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut engine, mut socket) = start(&directory);
    // Ten slots with five that ended in each, and one that ends.
    let mut swarm = Swarm::new(10);
    for task in 0..50 {
        swarm.begin(task % SERVICES, task % 10, "shutdown", "failed");
    }
    swarm.begin(0, 0, "shutdown", "running");
    swarm.tell(&engine);
    let whole = socket.lists(&Lists::default()).await.unwrap();
    assert_eq!(whole.tasks.len(), 61);
    let first = engine.sent("/tasks");
    let again = socket.lists(&whole).await.unwrap();
    assert_eq!(again, whole);
    let second = engine.sent("/tasks") - first;
    assert!(second * 4 < first, "{first} bytes at first, {second} then");
    // What ends is followed to its end.
    swarm.step(Step::End, 0);
    swarm.tell(&engine);
    let ended = socket.lists(&again).await.unwrap();
    assert_eq!(
        ended.tasks.last().unwrap().status.state,
        super::super::lists::State::Shutdown
    );
    assert!((engine.sent("/tasks") - first - second) * 4 < first);
    assert_eq!(engine.asked("/version"), 1);
    // Another engine at the same place may be another swarm's.
    engine.vanish();
    assert!(matches!(socket.lists(&ended).await, Err(Trouble::Unreachable(_))));
    engine.come_back().unwrap();
    let before = engine.sent("/tasks");
    assert_eq!(socket.lists(&ended).await.unwrap(), ended);
    assert_eq!(engine.asked("/version"), 2);
    assert!((first - 100..first + 100).contains(&(engine.sent("/tasks") - before)));
}

#[tokio::test]
async fn an_engine_that_knows_no_such_question_is_asked_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut socket) = start(&directory);
    Swarm::new(3).tell(&engine);
    let whole = socket.lists(&Lists::default()).await.unwrap();
    let before = engine.asked("/tasks");
    let refusal = engine::Fault::Refuse(400, "Invalid desired-state filter: 'new'".into());
    engine.fail("/tasks?", Some(refusal));
    assert_eq!(socket.lists(&whole).await.unwrap(), whole);
    assert_eq!(engine.asked("/tasks") - before, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens between two looks, what is put together is the picture that the whole list gives.
    #[test]
    fn the_picture_is_that_of_the_whole_list(
        looks in proptest::collection::vec(proptest::collection::vec((any_step(), 0..30usize), 0..4), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let (engine, mut socket) = start(&directory);
            let mut swarm = Swarm::new(6);
            let (mut before, mut desired) = (Lists::default(), Desired::default());
            for steps in looks {
                for (step, nth) in &steps {
                    swarm.step(*step, *nth);
                }
                swarm.tell(&engine);
                before = socket.lists(&before).await.unwrap();
                let whole = Socket::new(Arc::from(engine.socket())).lists(&Lists::default()).await.unwrap();
                let seen = picture(&before, &desired);
                assert_eq!(seen, picture(&whole, &desired), "{steps:?}");
                desired = seen.desired;
            }
        });
    }
}

/// Those that need the whole list are rarer than in a list of equals.
fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Replace),
        2 => Just(Step::Fail),
        8 => Just(Step::Advance),
        8 => Just(Step::End),
        4 => Just(Step::Reap),
        1 => Just(Step::Shrink),
        1 => Just(Step::Grow),
        1 => Just(Step::Glance),
        1 => Just(Step::NodeDown),
        1 => Just(Step::NodeReady),
        2 => Just(Step::Orphan),
    ]
}
