//! The proxy with many clients at once, and with more than its process has descriptors for.

use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use netns::namespace::Namespace;
use netns::testing::{self, Stage};
use netns::{Service, address, tool, wait};
use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster without packet programs, and a port of its first node, where all tasks of `web` are.
fn cluster(name: &str, tasks: u32, configuration: &str) -> Option<(Stage, SocketAddr)> {
    let cluster = testing::cluster(name)
        .mode("proxy")
        .nodes(1)
        .configuration(configuration)
        .service("web", Service::new(&["8080:80"]), tasks)
        .stage()?;
    cluster.settle().unwrap();
    let target = cluster.ports(8080)[0];
    Some((cluster, target))
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await?;
    let mut answer = Vec::with_capacity(512);
    while !answer.trim_ascii_end().ends_with(b"}") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// So many at once in a namespace; how each went.
fn all<T, F>(
    from: &Namespace,
    count: usize,
    one: impl Fn(usize) -> F + Send + 'static,
) -> Vec<std::io::Result<T>>
where
    T: Send + 'static,
    F: Future<Output = std::io::Result<T>> + Send + 'static,
{
    let running = from.spawn_async(move || async move {
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let one = one(number);
            tasks.spawn(async move {
                let outcome = tokio::time::timeout(PATIENCE, one).await;
                outcome.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            });
        }
        tasks.join_all().await
    });
    running.join().unwrap()
}

/// Connections that are there, at rest between two runtimes.
fn connect(from: &Namespace, target: SocketAddr, count: usize) -> Vec<std::net::TcpStream> {
    let connected = all(from, count, move |_| async move {
        TcpStream::connect(target).await?.into_std()
    });
    flawless(connected)
}

/// Asks on all of them at once. What `then` does with those that were answered is what comes back.
fn ask_all<T: Send + 'static>(
    from: &Namespace,
    streams: Vec<std::net::TcpStream>,
    then: impl Fn(TcpStream) -> std::io::Result<T> + Copy + Send + 'static,
) -> Vec<T> {
    let count = streams.len();
    let streams: Vec<_> = streams
        .into_iter()
        .map(|stream| Mutex::new(Some(stream)))
        .collect();
    let answered = all(from, count, move |number| {
        let stream = streams[number].lock().unwrap().take().unwrap();
        async move {
            let mut stream = TcpStream::from_std(stream)?;
            ask(&mut stream).await?;
            then(stream)
        }
    });
    flawless(answered)
}

fn stay(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.into_std()
}

fn go(stream: TcpStream) -> std::io::Result<()> {
    drop(stream);
    Ok(())
}

fn flawless<T>(outcomes: Vec<std::io::Result<T>>) -> Vec<T> {
    let count = outcomes.len();
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let complaints: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    assert!(
        complaints.is_empty(),
        "{} of {count}: {:?}",
        complaints.len(),
        complaints[0]
    );
    good.into_iter().filter_map(Result::ok).collect()
}

/// What the agent's process takes.
struct Taken {
    files: usize,
    kibibytes: u64,
}

fn agent(cluster: &Stage) -> i32 {
    cluster.state.nodes["node1"].agent.unwrap().pid
}

fn taken(pid: i32) -> Taken {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    Taken {
        files: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        kibibytes: resident.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// What the proxy tells of itself.
fn proxy(cluster: &Stage) -> Value {
    let status = cluster.portico_json("node1", &["status"]).unwrap();
    status["planes"][0]["report"]["proxy"].clone()
}

fn ended(cluster: &Stage, cause: &str) -> u64 {
    let proxy = proxy(cluster);
    let ended = proxy["ended"].as_array().unwrap();
    let one = ended.iter().find(|ended| ended["cause"] == cause).unwrap();
    one["connections"].as_u64().unwrap()
}

#[test]
fn nine_thousand_idle_connections_take_two_descriptors_each_and_live() {
    const COUNT: usize = 9000;
    let Some((cluster, target)) = cluster("idlers", 1, "") else {
        return;
    };
    let client = cluster.client();
    ask_all(&client, connect(&client, target, 500), go);
    wait::until("the first ones have gone", PATIENCE, || {
        ended(&cluster, "done") == 500
    })
    .unwrap();
    let before = taken(agent(&cluster));
    let streams = ask_all(&client, connect(&client, target, COUNT), stay);
    let held = taken(agent(&cluster));
    let files = held.files - before.files;
    assert!((2 * COUNT..2 * COUNT + 50).contains(&files), "{files}");
    println!(
        "{:.1} KiB each",
        held.kibibytes.saturating_sub(before.kibibytes) as f64 / COUNT as f64
    );
    ask_all(&client, streams, go);
    wait::until("all have gone", PATIENCE, || {
        ended(&cluster, "done") as usize == 500 + COUNT
    })
    .unwrap();
}

#[test]
fn ten_thousand_clients_connect_at_once_and_all_are_answered() {
    const COUNT: usize = 10_000;
    let Some((cluster, target)) = cluster("atonce", 2, "") else {
        return;
    };
    let client = cluster.client();
    // All of them are there before the first one asks, and each goes with its answer: those beyond what the process may have
    // descriptors for wait until then.
    let streams = connect(&client, target, COUNT);
    ask_all(&client, streams, go);
    let proxy = proxy(&cluster);
    assert_eq!(proxy["opened"].as_u64().unwrap() as usize, COUNT);
    println!("clients waited {} times", proxy["pauses"]);
}

#[test]
fn clients_wait_while_there_are_no_descriptors() {
    let Some((cluster, target)) = cluster("nofile", 2, "") else {
        return;
    };
    let client = cluster.client();
    let pid = agent(&cluster);
    let limit = |files: usize| {
        let limit = format!("--nofile={files}");
        tool::run(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit])).unwrap();
    };
    let free = 60;
    limit(taken(pid).files + free);
    let streams = connect(&client, target, 200);
    // Each goes with its answer, and makes room for another one.
    ask_all(&client, streams, go);
    wait::until("the agent says that clients waited", PATIENCE, || {
        proxy(&cluster)["pauses"].as_u64().unwrap() > 0
    })
    .unwrap();
    let log = std::fs::read_to_string(cluster.agent_log("node1")).unwrap();
    assert!(log.contains("clients wait in the backlog"), "{log}");
}

#[test]
fn a_hundred_thousand_connections_leave_memory_and_descriptors_where_they_were() {
    const BATCH: usize = 2000;
    let Some((cluster, target)) = cluster("leak", 4, "") else {
        return;
    };
    let (client, pid) = (cluster.client(), agent(&cluster));
    let mut done = 0;
    let mut batches = |count: usize| {
        for _ in 0..count {
            let answered = all(&client, BATCH, move |number| async move {
                let socket = TcpSocket::new_v4()?;
                // Ports of one address would not suffice: those of connections that have ended rest for a minute.
                let source = address::client_more((number % 40) as u8).like(target.ip());
                socket.bind(SocketAddr::new(source, 0))?;
                let mut stream = socket.connect(target).await?;
                ask(&mut stream).await?;
                // Every other one ends as clients do that have no time.
                if number % 2 == 0 {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                }
                Ok(())
            });
            flawless(answered);
            done += BATCH as u64 / 2;
        }
        wait::until("all have gone", PATIENCE, || {
            ended(&cluster, "done") == done && ended(&cluster, "client_reset") == done
        })
        .unwrap();
        taken(pid)
    };
    // Pools and the allocator's own have their size then.
    let before = batches(10);
    let after = batches(40);
    println!(
        "{} files and {} KiB after 20,000, {} and {} after 100,000",
        before.files, before.kibibytes, after.files, after.kibibytes
    );
    assert!(
        after.files <= before.files + 4,
        "{} {}",
        before.files,
        after.files
    );
    assert!(
        after.kibibytes <= before.kibibytes + 2048,
        "{} {}",
        before.kibibytes,
        after.kibibytes
    );
}

#[test]
fn a_client_that_has_vanished_is_missed() {
    let Some((cluster, target)) = cluster("vanish", 1, "[proxy]\nkeepalive = \"6s\"") else {
        return;
    };
    let client = cluster.client();
    let streams = ask_all(&client, connect(&client, target, 10), stay);
    cluster.cut_node("node1").unwrap();
    wait::until("their connections end", PATIENCE, || {
        ended(&cluster, "client_reset") == 10
    })
    .unwrap();
    assert_eq!(cluster.connections("web.1").unwrap(), 0, "its task is told");
    drop(streams);
}
