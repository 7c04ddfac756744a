//! The whole plane over loopback: real clients, real tasks.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::fronts::tests::{SEED, snapshot};
use super::relay::{Relay, Setup};
use super::*;
use crate::model::{Agreed, Backend, Drains, Identity, ProxyRules, ProxyVersion, Standing, Writer};

/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A plane with one frontend, and the addresses of tasks that are there or not.
struct Rig {
    plane: ProxyPlane,
    snapshot: Snapshot,
    tasks: Vec<SocketAddr>,
    runtime: Runtime,
}

impl Rig {
    /// Tasks at addresses of the loopback device, all at one port, which nobody listens at yet.
    fn new(tasks: u8, rules: ProxyRules) -> Self {
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
        for pool in &mut snapshot.pools {
            let pool = Arc::make_mut(pool);
            pool.target_port = port;
            for member in &mut pool.members {
                member.node = "node1".into();
                service.backends.push(Backend {
                    tag: member.candidate.tag,
                    task: Arc::clone(&member.task),
                    names: Vec::new(),
                    node: "node1".into(),
                    addresses: vec![member.address],
                    attachments: Vec::new(),
                    weight: 1,
                    standing: Standing::Active,
                    unready: None,
                });
            }
        }
        let config = "node = 'node1'\n[vip]\npool = []\n[dns]\nlisten = []\n[proxy]\nworkers = 2\n";
        let config = Config::parse(Path::new("portico.toml"), config).unwrap();
        let inside = runtime.enter();
        let agreed = Agreed {
            identity: Identity::new([0; 32]),
            pools: Vec::new(),
        };
        let (writer, _) = Writer::start(agreed, ["test".into()], Drains::default());
        let setup = Setup {
            node: "node1".into(),
            authority: [1; 32],
            port: 7950,
            view: writer.view(),
        };
        let plane = ProxyPlane::start(&config, SEED, &Relay::new(setup).unwrap()).unwrap();
        drop(inside);
        let tasks = addresses
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let rig = Self {
            plane,
            tasks: tasks.collect(),
            snapshot,
            runtime,
        };
        rig.apply();
        assert_eq!(rig.plane.report().problems, []);
        rig
    }

    fn apply(&self) {
        let _inside = self.runtime.enter();
        self.plane.apply(&Arc::new(self.snapshot.clone()));
    }

    fn listen(&self, task: usize) -> TcpListener {
        TcpListener::bind(self.tasks[task]).unwrap()
    }

    fn client(&self) -> TcpStream {
        let front = self.snapshot.services["web"].frontends[0];
        let stream = TcpStream::connect((front.address.unwrap(), front.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client and the task's side of it, once they hear each other: a task may take a connection before the plane knows.
    fn pair(&self, task: &TcpListener) -> (TcpStream, TcpStream) {
        let mut client = self.client();
        let (mut near, _) = task.accept().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        near.write_all(b"!").unwrap();
        assert_eq!(read(&mut client, 1), b"!");
        (client, near)
    }

    fn ended(&self, cause: Cause) -> u64 {
        let proxy = self.plane.report().proxy.unwrap();
        let mut all = proxy.ended.into_iter();
        all.find(|ended| ended.cause == cause.label())
            .unwrap()
            .connections
    }

    /// Waits until so many connections have ended for this reason.
    fn wait(&self, cause: Cause, connections: u64) {
        let began = Instant::now();
        while self.ended(cause) != connections {
            let report = self.plane.report();
            assert!(began.elapsed() < PATIENCE, "{cause:?}: {report:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn each_way_goes_on_until_its_own_end_whatever_the_size() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    // Larger than any buffer on the way: the kernel moves it, and it waits for the reader.
    let large: Vec<u8> = (0..20_000_000u32).map(|number| (number / 7) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sending = client.try_clone().unwrap();
            sending.write_all(&large).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).unwrap();
        assert!(heard == large);
    });
    // The client has said all; the task has not.
    near.write_all(b"an answer").unwrap();
    assert_eq!(read(&mut client, 9), b"an answer");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            near.write_all(&large).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert!(heard == large);
    });
    rig.wait(Cause::Done, 1);
    let proxy = rig.plane.report().proxy.unwrap();
    assert_eq!(
        (proxy.bytes_to_tasks, proxy.bytes_to_clients),
        (20_000_000, 20_000_010)
    );
}

#[test]
fn whoever_breaks_off_is_told_of_on_the_other_side() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, near) = rig.pair(&task);
    socket2::SockRef::from(&near)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(near);
    is_reset(&mut client);
    rig.wait(Cause::TaskReset, 1);
    let (client, mut near) = rig.pair(&task);
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    is_reset(&mut near);
    rig.wait(Cause::ClientReset, 1);
}

#[test]
fn a_client_whose_task_refuses_gets_another_one() {
    let rig = Rig::new(
        3,
        ProxyRules {
            retries: 2,
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(1);
    for _ in 0..30 {
        let (mut client, mut near) = rig.pair(&task);
        client.write_all(b"x").unwrap();
        assert_eq!(read(&mut near, 1), b"x");
    }
    assert!(rig.plane.report().proxy.unwrap().retries > 0);
    drop(task);
    // Nobody is left: the client is told.
    is_reset(&mut rig.client());
    rig.wait(Cause::Refused, 1);
}

#[test]
fn connections_end_with_their_member_and_are_counted_until_then() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    client.write_all(b"x").unwrap();
    read(&mut near, 1);
    assert_eq!(rig.plane.report().flows.established, 1);
    for pool in &mut rig.snapshot.pools {
        Arc::make_mut(pool).members.clear();
    }
    rig.apply();
    is_reset(&mut client);
    is_reset(&mut near);
    rig.wait(Cause::MemberGone, 1);
    assert_eq!(rig.plane.report().flows.established, 0);
    is_reset(&mut rig.client());
    rig.wait(Cause::NoMember, 1);
}

#[test]
fn a_draining_task_keeps_its_connections_as_long_as_its_service_allows() {
    let mut rig = Rig::new(
        1,
        ProxyRules {
            drain: Some(Duration::from_millis(1500)),
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.backends[0].standing = Standing::Draining;
    rig.apply();
    let began = Instant::now();
    client.write_all(b"x").unwrap();
    assert_eq!(read(&mut near, 1), b"x");
    is_reset(&mut client);
    assert!(
        began.elapsed() > Duration::from_millis(1400),
        "{:?}",
        began.elapsed()
    );
    rig.wait(Cause::Drained, 1);
}

#[test]
fn silence_ends_a_connection_where_its_service_says_so() {
    let rig = Rig::new(
        1,
        ProxyRules {
            idle: Some(Duration::from_millis(400)),
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let began = Instant::now();
    // Who speaks goes on.
    while began.elapsed() < Duration::from_secs(1) {
        client.write_all(b"x").unwrap();
        assert_eq!(read(&mut near, 1), b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    is_reset(&mut client);
    rig.wait(Cause::Idle, 1);
}

#[test]
fn tasks_are_told_of_their_clients_in_either_version() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let rig = Rig::new(
            1,
            ProxyRules {
                send: Some(version),
                ..ProxyRules::default()
            },
        );
        let task = rig.listen(0);
        let (mut client, mut near) = rig.pair(&task);
        client.write_all(b"first").unwrap();
        let mut heard = Vec::new();
        let length = loop {
            heard.extend(read(&mut near, 1));
            if let header::Parsed::Whole { header, length } = header::parse(&heard).unwrap() {
                assert_eq!(header.source, Some(client.local_addr().unwrap()));
                assert_eq!(header.destination, Some(client.peer_addr().unwrap()));
                break length;
            }
        };
        assert_eq!(length, heard.len());
        assert_eq!(read(&mut near, 5), b"first");
    }
}

#[test]
fn trusted_proxies_say_whose_connection_it_is_and_must() {
    let rig = Rig::new(
        1,
        ProxyRules {
            send: Some(ProxyVersion::V1),
            accept: vec!["127.0.0.0/8".parse().unwrap()],
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let mut client = rig.client();
    // In pieces, and with what comes behind it.
    for piece in [
        &b"PROXY TCP4 198.51.100.7"[..],
        b" 203.0.113.9 40000 443\r\nfirst",
    ] {
        client.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let (mut near, _) = task.accept().unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = b"PROXY TCP4 198.51.100.7 203.0.113.9 40000 443\r\nfirst";
    assert_eq!(read(&mut near, told.len()), told);
    // One that says nothing of the kind, and one that says nothing.
    let mut other = rig.client();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    is_reset(&mut other);
    rig.wait(Cause::Malformed, 1);
    is_reset(&mut rig.client());
    rig.wait(Cause::Malformed, 2);
}

#[test]
fn a_port_that_is_taken_is_said_and_served_once_it_is_free() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.frontends[0].port = port;
    rig.apply();
    let problems = rig.plane.report().problems;
    assert!(problems[0].error.contains(&port.to_string()), "{problems:?}");
    drop(taken);
    let began = Instant::now();
    while !rig.plane.report().problems.is_empty() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let task = rig.listen(0);
    rig.pair(&task);
}
