//! A plane of its own for each test, and the two sides that it is between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::super::fronts::tests::{SEED, snapshot};
use super::super::relay::tests::cluster::{self, Owner, SECRET};
use super::super::relay::{Relay, Setup};
use super::super::*;
use crate::config::Mode;
use crate::model::{Agreed, Backend, Drains, Identity, ProxyRules, Standing, Writer};

/// More than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Which node has the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The plane's own.
    Here,
    /// Another one, by whose agent they are reached.
    There,
}

/// A plane with one frontend, and the addresses of tasks that are there or not.
pub struct Rig {
    pub plane: ProxyPlane,
    pub snapshot: Snapshot,
    pub tasks: Vec<SocketAddr>,
    /// Of planes from the next one on.
    pub beside: Beside,
    config: Config,
    relay: Relay,
    _owner: Option<Owner>,
    runtime: Runtime,
}

impl Rig {
    /// Tasks at addresses of the loopback device, all at one port, which nobody listens at yet.
    pub fn new(tasks: u8, rules: ProxyRules) -> Self {
        Self::with(tasks, rules, "")
    }

    /// With more lines in the configuration's `[proxy]`.
    pub fn with(tasks: u8, rules: ProxyRules, more: &str) -> Self {
        Self::made(Home::Here, tasks, rules, more)
    }

    /// With tasks that this node has, or another one.
    pub fn at(home: Home, tasks: u8, rules: ProxyRules) -> Self {
        Self::made(home, tasks, rules, "")
    }

    fn made(home: Home, tasks: u8, rules: ProxyRules, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let free = |ip: [u8; 4]| {
            TcpListener::bind((IpAddr::from(ip), 0))
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let port = free([127, 0, 0, 2]).port();
        let addresses: Vec<String> = (0..tasks)
            .map(|number| format!("127.0.0.{}", number + 2))
            .collect();
        let mut snapshot = snapshot(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        let service = Arc::make_mut(snapshot.services.get_mut("web").unwrap());
        service.proxy = rules;
        let mut front = service.frontends[0];
        front.address = Some([127, 0, 0, 1].into());
        front.port = free([127, 0, 0, 1]).port();
        front.target_port = port;
        service.frontends = vec![front];
        let node: Arc<str> = match home {
            Home::Here => "node1",
            Home::There => "node2",
        }
        .into();
        for pool in &mut snapshot.pools {
            let pool = Arc::make_mut(pool);
            pool.target_port = port;
            for member in &mut pool.members {
                member.node = Arc::clone(&node);
                service.backends.push(Backend {
                    tag: member.candidate.tag,
                    task: Arc::clone(&member.task),
                    names: Vec::new(),
                    node: Arc::clone(&node),
                    addresses: vec![member.address],
                    attachments: Vec::new(),
                    weight: 1,
                    standing: Standing::Active,
                    unready: None,
                });
            }
        }
        snapshot.nodes = cluster::snapshot(Vec::new()).nodes;
        let owner = Owner::knowing(snapshot.clone());
        let owner = (home == Home::There).then(|| runtime.block_on(owner));
        let config =
            format!("node = 'node1'\n[vip]\npool = []\n[dns]\nlisten = []\n[proxy]\nworkers = 2\n{more}");
        let config = Config::parse(Path::new("portico.toml"), &config).unwrap();
        let inside = runtime.enter();
        let agreed = Agreed {
            identity: Identity::new([0; 32]),
            pools: Vec::new(),
        };
        let (writer, _) = Writer::start(agreed, ["test".into()], Drains::default());
        let setup = Setup {
            node: "node1".into(),
            authority: SECRET,
            port: owner.as_ref().map_or(7950, |owner| owner.port),
            view: writer.view(),
            keepalive: Duration::from_secs(60),
        };
        let relay = Relay::new(setup).unwrap();
        let plane = ProxyPlane::start(&config, SEED, &relay, Sockets::default(), Beside::default()).unwrap();
        drop(inside);
        let tasks = addresses
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let rig = Self {
            plane,
            tasks: tasks.collect(),
            snapshot,
            beside: Beside::default(),
            config,
            relay,
            _owner: owner,
            runtime,
        };
        rig.apply();
        assert_eq!(rig.plane.report().problems, []);
        rig
    }

    /// Another plane with so many workers gets the sockets, and this one's clients from now on; gives this one. `meanwhile` is
    /// done while nobody accepts.
    pub fn replace(&mut self, workers: u32, meanwhile: impl FnOnce(&Self)) -> ProxyPlane {
        let before = self.succeed(workers, meanwhile);
        self.apply();
        before
    }

    /// The same, and it has no snapshot yet.
    pub fn succeed(&mut self, workers: u32, meanwhile: impl FnOnce(&Self)) -> ProxyPlane {
        let given = self.sockets();
        self.retire();
        meanwhile(self);
        self.config.proxy.workers = workers;
        let inside = self.runtime.enter();
        let beside = self.beside.clone();
        let heir = ProxyPlane::start(&self.config, SEED, &self.relay, given, beside).unwrap();
        drop(inside);
        std::mem::replace(&mut self.plane, heir)
    }

    fn sockets(&self) -> Sockets {
        let mut sockets = Sockets::default();
        for socket in self.runtime.block_on(self.plane.lend()).unwrap() {
            sockets.add(socket).unwrap();
        }
        sockets
    }

    /// Which sockets it has, by their places.
    pub fn lent(&self) -> BTreeMap<Bind, BTreeSet<u64>> {
        self.sockets().identities()
    }

    pub fn retire(&self) {
        self.runtime.block_on(self.plane.retire());
    }

    pub fn apply(&self) {
        let _inside = self.runtime.enter();
        let here = Here {
            mode: Mode::Proxy,
            without_ebpf: None,
        };
        self.plane.apply(&Arc::new(self.snapshot.clone()), &here);
    }

    pub fn listen(&self, task: usize) -> TcpListener {
        TcpListener::bind(self.tasks[task]).unwrap()
    }

    pub fn client(&self) -> TcpStream {
        let front = self.snapshot.services["web"].frontends[0];
        let stream = TcpStream::connect((front.address.unwrap(), front.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client and the task's side of it, once they hear each other: a task may take a connection before the plane knows.
    pub fn pair(&self, task: &TcpListener) -> (TcpStream, TcpStream) {
        let mut client = self.client();
        let (mut near, _) = task.accept().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        near.write_all(b"!").unwrap();
        assert_eq!(read(&mut client, 1), b"!");
        (client, near)
    }

    pub fn ended(&self, cause: Cause) -> u64 {
        let proxy = self.plane.report().proxy.unwrap();
        let mut all = proxy.ended.into_iter();
        all.find(|ended| ended.cause == cause.label())
            .unwrap()
            .connections
    }

    /// Waits until so many connections have ended for this reason.
    pub fn wait(&self, cause: Cause, connections: u64) {
        self.until(|_| self.ended(cause) == connections);
    }

    /// Waits until the plane tells of itself what is wanted.
    pub fn until(&self, wanted: impl Fn(&ProxyReport) -> bool) {
        let began = Instant::now();
        while !wanted(&self.plane.report().proxy.unwrap()) {
            let report = self.plane.report();
            assert!(began.elapsed() < PATIENCE, "{report:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

pub fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
