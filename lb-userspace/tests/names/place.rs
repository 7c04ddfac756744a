//! A network of its own for each test, with a namespace of tasks behind a link, and the server with what it needs.

use std::future::Future;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dns::proto::op::{Message, Query};
use dns::proto::rr::rdata::A;
use dns::proto::rr::{Name, RData, Record, RecordType};
use lb_userspace::config::Config;
use lb_userspace::model::{Agreed, Drains, Identity, View, Writer};
use lb_userspace::names::NameServer;
use lb_userspace::source::file;
use nix::sched::{CloneFlags, unshare};
use tokio::sync::watch;

/// This node's end of the network: the thread that a test runs on is in it.
pub struct Place {
    /// Whose network the tasks have.
    tasks: Child,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.tasks.kill();
        let _ = self.tasks.wait();
    }
}

/// Whether the test can run. Where it cannot it is skipped, and fails in CI.
fn possible(test: &str) -> bool {
    let tools = ["ip", "dig", "nsenter", "unshare"];
    let missing = |tool: &&&str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output();
        !found.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<_> = tools.iter().filter(missing).collect();
    if missing.is_empty() && nix::unistd::geteuid().is_root() {
        return true;
    }
    let reason = format!("needs root and {missing:?}; cargo xtask setup installs tools");
    assert!(std::env::var("CI").is_err(), "{test}: {reason}");
    let _ = writeln!(std::io::stderr(), "{test} SKIPPED: {reason}");
    false
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text} {errors}"
    );
    text
}

impl Place {
    /// Runs a test on a thread with a network of its own; what it starts is in there with it.
    pub fn enter<F: Future<Output = ()>>(test: &str, body: impl FnOnce(Arc<Self>) -> F + Send + 'static) {
        if !possible(test) {
            return;
        }
        let inside = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let place = Arc::new(Self::make());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(body(place));
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn make() -> Self {
        let mut tasks = Command::new("unshare");
        tasks.args(["--net", "sh", "-c", "ip link set lo up; echo; exec sleep 120"]);
        let mut tasks = tasks.stdout(Stdio::piped()).spawn().unwrap();
        // A line says that it is in its namespace.
        let mut line = [0];
        std::io::Read::read_exact(tasks.stdout.as_mut().unwrap(), &mut line).unwrap();
        let place = Self { tasks };
        let pid = place.tasks.id();
        for command in [
            "link set lo up".to_owned(),
            format!("link add bridge type veth peer name eth0 netns {pid}"),
            "addr add 172.18.0.1/24 dev bridge".into(),
            "addr add 2001:db8:18::1/64 dev bridge nodad".into(),
            "link set bridge up".into(),
        ] {
            place.ip(&command);
        }
        for command in [
            "addr add 172.18.0.2/24 dev eth0",
            "addr add 172.18.0.3/24 dev eth0",
            "addr add 172.18.0.9/24 dev eth0",
            "addr add 2001:db8:18::2/64 dev eth0 nodad",
            "link set eth0 up",
        ] {
            let inside = format!("--net=/proc/{pid}/ns/net");
            let command = command.split(' ').collect::<Vec<_>>();
            run("nsenter", &[&[inside.as_str(), "ip"], &command[..]].concat());
        }
        place
    }

    pub fn ip(&self, command: &str) {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }

    /// What a task with this address is told: the records' data in order, or the status where there are none.
    pub async fn dig(&self, server: &str, client: &str, arguments: &[&str]) -> String {
        let inside = format!("--net=/proc/{}/ns/net", self.tasks.id());
        dig(&[
            &["nsenter", &inside, "dig", "-b", client][..],
            &[&at(server)],
            arguments,
        ]
        .concat())
        .await
    }

    /// What this node is told.
    pub async fn dig_here(&self, server: &str, arguments: &[&str]) -> String {
        dig(&[&["dig"][..], &[&at(server)], arguments].concat()).await
    }
}

fn at(server: &str) -> String {
    format!("@{server}")
}

async fn dig(command: &[&str]) -> String {
    let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
    let text = tokio::task::spawn_blocking(move || {
        let words: Vec<_> = command[1..].iter().map(String::as_str).collect();
        run(
            &command[0],
            &[&words[..], &["+tries=1", "+time=10", "+nocookie"]].concat(),
        )
    });
    let text = text.await.unwrap();
    let mut section = false;
    let mut data = Vec::new();
    for line in text.lines() {
        section = (section || line.contains("ANSWER SECTION")) && !line.is_empty();
        if section && !line.starts_with(';') {
            data.push(line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
        }
    }
    data.sort();
    if !data.is_empty() {
        return data.join(", ");
    }
    let status = text.split("status: ").nth(1).unwrap_or_else(|| panic!("{text}"));
    status.split(',').next().unwrap().to_owned()
}

/// A name server that follows a writer.
pub struct Mesh {
    pub server: NameServer,
    writer: Writer,
    view: View,
    listen: SocketAddr,
}

impl Mesh {
    /// `dns` is the content of the configuration's table.
    pub fn start(dns: &str) -> Self {
        let text = format!("node = 'node1'\n[dns]\n{dns}");
        let config =
            Config::parse(Path::new("portico.toml"), &text).unwrap_or_else(|error| panic!("{error}"));
        let server = NameServer::start(&config).unwrap();
        let agreed = Agreed {
            identity: Identity::new([1; 32]),
            pools: config.vip.pool.clone(),
        };
        let (writer, _) = Writer::start(agreed, ["test".into()], Drains::default());
        tokio::spawn(Arc::clone(server.names()).follow(writer.view(), watch::channel(u64::MAX).1));
        Self {
            listen: config.dns.listen[0],
            view: writer.view(),
            server,
            writer,
        }
    }

    /// Asks the writer for what a services file says.
    pub async fn wish(&mut self, file: &str) {
        let desired = file::parse(Path::new("services.yaml"), file).unwrap_or_else(|error| panic!("{error}"));
        self.writer
            .source("test".into(), Arc::new(desired))
            .await
            .unwrap();
    }

    /// Waits for the next snapshot; when it was there.
    pub async fn published(&mut self) -> Instant {
        self.view.changed().await.unwrap();
        Instant::now()
    }

    /// Both, and until the server knows it.
    pub async fn serve(&mut self, file: &str) {
        self.wish(file).await;
        self.published().await;
        eventually("names are known", || self.server.names().generation() > 0).await;
    }

    pub fn vip(&self, service: &str) -> String {
        let vips = &self.view.current().services[service].vips;
        vips.iter().find(|vip| vip.is_ipv4()).unwrap().to_string()
    }

    /// Asked by this node over a socket.
    pub async fn addresses(&self, name: &str) -> Vec<String> {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket
            .send_to(&query.to_vec().unwrap(), self.listen)
            .await
            .unwrap();
        let mut buffer = [0; 512];
        let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer));
        let length = received.await.unwrap().unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        answer
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect()
    }
}

/// A name server elsewhere that knows one address for every name.
pub fn upstream(address: [u8; 4]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let name = query.queries[0].name().clone();
            let mut answer = query.clone();
            answer.metadata.message_type = dns::proto::op::MessageType::Response;
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::from(address)))));
            socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
        }
    });
    place
}

/// Waits for a condition, with a limit that only a broken server reaches.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
