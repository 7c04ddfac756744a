//! In simulated time: an engine, a manager and another agent that say what they are told to.

mod slips;

use std::sync::Mutex;

use super::super::lists::Lists;
use super::super::picture::picture;
use super::super::recorded::{port, small};
use super::super::trouble::Trouble;
use super::*;
use crate::model::{Identity, Snapshot, View};
use crate::source::engine::{Container, Joined, Run};

#[derive(Clone)]
struct World {
    lists: Arc<Mutex<Result<Lists, Trouble>>>,
    told: watch::Sender<Heard>,
    published: Arc<Mutex<Vec<Option<Arc<Desired>>>>>,
    /// The swarm's own id, as the certificate has it.
    cluster: Arc<Mutex<Option<Arc<str>>>>,
    left: Arc<Mutex<bool>>,
}

impl Fetch for World {
    async fn lists(&mut self, _before: &Lists) -> Result<Lists, Trouble> {
        self.lists.lock().unwrap().clone()
    }
}

impl Ways for World {
    type Lists = Self;

    fn lists(&self) -> Self {
        self.clone()
    }

    fn stream(
        &self,
        _member: &Membership,
        _known: Option<Arc<Desired>>,
    ) -> (watch::Receiver<Heard>, JoinHandle<()>) {
        let silent = tokio::spawn(std::future::pending());
        (self.told.subscribe(), silent)
    }

    fn publish(&self, desired: Option<&Arc<Desired>>) {
        self.published.lock().unwrap().push(desired.cloned());
    }

    fn hindrance(&self) -> Option<Note> {
        None
    }

    fn cluster(&self, _node: &str) -> Option<Arc<str>> {
        self.cluster.lock().unwrap().clone()
    }

    fn is_uncertified(&self) -> bool {
        *self.left.lock().unwrap()
    }

    fn is_answered(&self) -> bool {
        true
    }
}

/// The agent of n1, where web's one task runs.
struct Rig {
    world: World,
    local: watch::Sender<Option<Arc<Local>>>,
    moved: watch::Sender<u64>,
    view: View,
    report: watch::Receiver<SourceReport>,
    runtime: tempfile::TempDir,
    following: JoinHandle<()>,
}

fn lists() -> Lists {
    let mut lists = small();
    lists.services[0].spec.endpoint_spec.ports = vec![port(8080, 80, "tcp")];
    lists
}

fn swarm_picture() -> Arc<Desired> {
    Arc::new(picture(&lists(), &Desired::default()).desired)
}

fn member(manager: bool) -> Membership {
    Membership {
        node: "n1-id-and-more".into(),
        address: Some([192, 0, 2, 11].into()),
        manager,
        managers: Vec::new(),
        error: None,
    }
}

fn local(swarm: Option<Membership>) -> Local {
    let gateway = Joined {
        addresses: vec!["172.20.0.3".parse().unwrap()],
        aliases: Vec::new(),
        gateway: true,
        priority: 0,
    };
    let container = Container {
        id: "c1".into(),
        name: "web.1.t1".into(),
        created: 0,
        labels: [("com.docker.swarm.task.id".to_owned(), "t1".to_owned())].into(),
        run: Run::Running,
        health: None,
        stopping: false,
        host: false,
        networks: [("docker_gwbridge".into(), gateway)].into(),
        exposed: Vec::new(),
        published: Vec::new(),
    };
    Local {
        swarm,
        containers: [("c1".into(), Arc::new(container))].into(),
        ..Local::default()
    }
}

impl Rig {
    fn start(node: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), node)
    }

    fn start_in(runtime: tempfile::TempDir, node: &str) -> Self {
        let world = World {
            lists: Arc::new(Mutex::new(Ok(lists()))),
            told: watch::Sender::default(),
            published: Arc::default(),
            cluster: Arc::default(),
            left: Arc::default(),
        };
        let identity = Identity::new([0; 32]);
        let (writer, _) = Writer::start(identity, [NAME.into()], crate::model::Past::default());
        let (local, locals) = watch::channel(None);
        let (moved, moves) = watch::channel(0);
        let view = writer.view();
        let setup = Setup {
            node: node.into(),
            required: false,
            local: locals,
            moved: moves,
            writer,
            ways: world.clone(),
        };
        let (report, following) = start(setup, runtime.path());
        Self {
            world,
            local,
            moved,
            view,
            report,
            runtime,
            following,
        }
    }

    fn says(&self, swarm: Option<Membership>) {
        self.local.send_replace(Some(Arc::new(local(swarm))));
    }

    async fn settled(&mut self) -> Arc<Snapshot> {
        tokio::time::sleep(Duration::from_millis(700)).await;
        self.view.current()
    }

    fn report(&self) -> SourceReport {
        self.report.borrow().clone()
    }
}

fn address(snapshot: &Snapshot) -> Option<String> {
    let web = snapshot.services.get("web")?;
    Some(web.backends.first()?.addresses.first()?.to_string())
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_swarm() {
    let mut rig = Rig::start("n1");
    let snapshot = rig.settled().await;
    assert_eq!(snapshot.generation, 0);
    let snapshot = rig.settled().await;
    assert_eq!(snapshot.generation, 1);
    assert!(snapshot.services.is_empty());
    assert_eq!(rig.report().place, "waiting for the container engine");
}

#[tokio::test(start_paused = true)]
async fn a_manager_serves_its_own_lists_and_tells_the_others() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(true)));
    let snapshot = rig.settled().await;
    assert_eq!(address(&snapshot).as_deref(), Some("172.20.0.3"));
    assert!(rig.report().place.starts_with("manager of the swarm"));
    // Where this node delivers is nobody else's business.
    let published = rig.world.published.lock().unwrap().clone();
    assert_eq!(published, [Some(swarm_picture())]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_serves_what_it_is_told_and_tells_nobody() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(false)));
    rig.world.told.send_replace(Heard {
        desired: Some(swarm_picture()),
        from: Some("n2".to_owned()),
        ..Heard::default()
    });
    let snapshot = rig.settled().await;
    assert_eq!(address(&snapshot).as_deref(), Some("172.20.0.3"));
    assert_eq!(rig.report().place, "stream from n2");
    assert_eq!(*rig.world.published.lock().unwrap(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_lost_leaves_what_there_is_and_says_so() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(true)));
    let before = rig.settled().await;
    *rig.world.lists.lock().unwrap() = Err(Trouble::NoLeader);
    rig.moved.send_modify(|count| *count += 1);
    let after = rig.settled().await;
    assert_eq!(before, after);
    let error = rig.report().error.unwrap();
    assert!(
        error.contains("no leader") && error.contains("traffic: flows on"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_asked_for_services_turns_to_the_stream() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(true)));
    let before = rig.settled().await;
    *rig.world.lists.lock().unwrap() = Err(Trouble::NotManager);
    rig.moved.send_modify(|count| *count += 1);
    let after = rig.settled().await;
    assert_eq!(before, after);
    rig.world.told.send_replace(Heard {
        desired: Some(Arc::default()),
        from: Some("n2".to_owned()),
        ..Heard::default()
    });
    assert!(rig.settled().await.services.is_empty());
    assert_eq!(rig.report().place, "stream from n2");
    assert_eq!(rig.world.published.lock().unwrap().last(), Some(&None));
    // It is one again, or had never ceased to be.
    *rig.world.lists.lock().unwrap() = Ok(lists());
    tokio::time::sleep(DEMOTED).await;
    let snapshot = rig.settled().await;
    assert_eq!(address(&snapshot).as_deref(), Some("172.20.0.3"));
}

#[tokio::test(start_paused = true)]
async fn roles_change_without_a_gap() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(true)));
    let before = rig.settled().await;
    rig.says(Some(member(false)));
    assert_eq!(rig.settled().await, before);
    assert!(rig.report().place.contains("no manager's agent reached"));
    rig.says(Some(member(true)));
    assert_eq!(rig.settled().await, before);
    // The others are told again what they were told before.
    let published = rig.world.published.lock().unwrap().clone();
    let told = swarm_picture();
    assert_eq!(published, [Some(Arc::clone(&told)), None, Some(told)]);
}

#[tokio::test(start_paused = true)]
async fn a_node_under_another_name_is_told_what_to_set() {
    let mut rig = Rig::start("host7");
    rig.says(Some(member(true)));
    rig.settled().await;
    let error = rig.report().error.unwrap();
    assert!(error.contains("set node = \"n1\""), "{error}");
    assert!(
        error.contains("--label-add portico.node=host7 n1-id-and-more"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn its_own_containers_are_followed_at_once() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(true)));
    rig.settled().await;
    let mut here = local(Some(member(true)));
    let mut container = (*here.containers["c1"]).clone();
    container.stopping = true;
    here.containers.insert("c1".into(), Arc::new(container));
    rig.local.send_replace(Some(Arc::new(here)));
    let snapshot = rig.settled().await;
    let standing = snapshot.services["web"].backends[0].standing;
    assert_eq!(standing, crate::model::Standing::Draining);
    let gone = Local {
        swarm: Some(member(true)),
        ..Local::default()
    };
    rig.local.send_replace(Some(Arc::new(gone)));
    assert!(rig.settled().await.services["web"].backends.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_without_its_engine_serves_what_was_kept() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(false)));
    rig.world.told.send_replace(Heard {
        desired: Some(swarm_picture()),
        ..Heard::default()
    });
    let before = rig.settled().await;
    let Rig {
        runtime, following, ..
    } = rig;
    following.abort();
    // What it keeps is written when it ends.
    let _ = following.await;
    let mut rig = Rig::start_in(runtime, "n1");
    assert_eq!(rig.settled().await.services, before.services);
    // And after the engine has come, before any manager has.
    rig.says(Some(member(false)));
    assert_eq!(rig.settled().await.services, before.services);
}
