//! The proxy with many clients at once, and with more than its process has descriptors for.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use netns::namespace::Namespace;
use netns::process::Process;
use netns::testing::{self, Stage};
use netns::{Service, address, wait};
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

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(request("/").as_bytes()).await?;
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

/// Has so many bytes sent.
async fn load(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    let request = request(&format!("/bytes/{bytes}"));
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(bytes + 512);
    let head = loop {
        if let Some(at) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let here = answer.len();
    answer.resize(head + bytes, 0);
    stream.read_exact(&mut answer[here..]).await?;
    assert!(answer[head..].iter().all(|byte| *byte == b'x'));
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
    on_all(from, streams, move |mut stream| async move {
        ask(&mut stream).await?;
        then(stream)
    })
}

/// The same with all of them at once; what comes of each.
fn on_all<T, F>(
    from: &Namespace,
    streams: Vec<std::net::TcpStream>,
    of: impl Fn(TcpStream) -> F + Copy + Send + 'static,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = std::io::Result<T>> + Send + 'static,
{
    let count = streams.len();
    let streams: Vec<_> = streams
        .into_iter()
        .map(|stream| Mutex::new(Some(stream)))
        .collect();
    let done = all(from, count, move |number| {
        let stream = streams[number].lock().unwrap().take().unwrap();
        of(TcpStream::from_std(stream).unwrap())
    });
    flawless(done)
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
    /// Of them, those of pipes.
    pipes: usize,
    kibibytes: u64,
}

fn agent(cluster: &Stage) -> Process {
    cluster.state.nodes["node1"].agent.unwrap()
}

fn taken(pid: i32) -> Taken {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let is_pipe = |file: &std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let files: Vec<_> = files.map(Result::unwrap).collect();
    Taken {
        files: files.len(),
        pipes: files.iter().filter(|file| is_pipe(file)).count(),
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

/// What the pools of all workers may keep: 64 pipes each, of two descriptors.
fn pools(cluster: &Stage) -> usize {
    proxy(cluster)["workers"].as_u64().unwrap() as usize * 64 * 2
}

#[test]
fn nine_thousand_idle_connections_take_two_descriptors_each_and_live() {
    const COUNT: usize = 9000;
    /// Of them, those that have moved much before.
    const BULK: usize = 300;
    /// Of the agent's memory, for each: twice what a build for tests has taken.
    const KIBIBYTES: f64 = 5.0;
    let Some((cluster, target)) = cluster("idlers", 1, "") else {
        return;
    };
    let client = cluster.client();
    ask_all(&client, connect(&client, target, 500), go);
    wait::until("the first ones have gone", PATIENCE, || {
        ended(&cluster, "done") == 500
    })
    .unwrap();
    let before = taken(agent(&cluster).pid);
    let mut streams = ask_all(&client, connect(&client, target, COUNT - BULK), stay);
    let bulk = connect(&client, target, BULK);
    streams.extend(on_all(&client, bulk, |mut stream| async move {
        load(&mut stream, 300_000).await?;
        stream.into_std()
    }));
    let held = taken(agent(&cluster).pid);
    let files = held.files - held.pipes - (before.files - before.pipes);
    assert!((2 * COUNT..2 * COUNT + 50).contains(&files), "{files}");
    let pipes = held.pipes - before.pipes;
    assert!((1..=pools(&cluster)).contains(&pipes), "{pipes}");
    let each = (held.kibibytes as f64 - before.kibibytes as f64) / COUNT as f64;
    println!("{pipes} descriptors of pipes, {each:.2} KiB each");
    assert!((0.0..KIBIBYTES).contains(&each), "{each} KiB each");
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
    let agent = agent(&cluster);
    let free = 60;
    agent.limit_files(taken(agent.pid).files + free).unwrap();
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

/// Large answers take pipes as a rule.
#[test]
fn connections_go_on_while_there_are_no_descriptors() {
    let Some((cluster, target)) = cluster("nopipes", 2, "") else {
        return;
    };
    let client = cluster.client();
    let agent = agent(&cluster);
    let streams = ask_all(&client, connect(&client, target, 20), stay);
    let free = (0..).find(|file| !Path::new(&format!("/proc/{}/fd/{file}", agent.pid)).exists());
    agent.limit_files(free.unwrap()).unwrap();
    let streams = on_all(&client, streams, |mut stream| async move {
        load(&mut stream, 1_000_000).await?;
        stream.into_std()
    });
    agent.limit_files(taken(agent.pid).files + 1000).unwrap();
    ask_all(&client, streams, go);
    wait::until("all have gone", PATIENCE, || ended(&cluster, "done") == 20).unwrap();
}

#[test]
fn a_hundred_thousand_connections_leave_memory_and_descriptors_where_they_were() {
    const BATCH: usize = 2000;
    let Some((cluster, target)) = cluster("leak", 4, "") else {
        return;
    };
    let (client, pid) = (cluster.client(), agent(&cluster).pid);
    let (fresh, pools) = (taken(pid), pools(&cluster));
    let mut done = 0;
    let mut batches = |count: usize| {
        for _ in 0..count {
            let answered = all(&client, BATCH, move |number| async move {
                let socket = TcpSocket::new_v4()?;
                // Ports of one address would not suffice: those of connections that have ended rest for a minute.
                let source = address::client_more((number % 40) as u8).like(target.ip());
                socket.bind(SocketAddr::new(source, 0))?;
                let mut stream = socket.connect(target).await?;
                // Some go through pipes.
                match number % 11 {
                    0 => load(&mut stream, 100_000).await?,
                    _ => ask(&mut stream).await?,
                }
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
        "{} files, {} of pipes and {} KiB after 20,000, {}, {} and {} after 100,000",
        before.files, before.pipes, before.kibibytes, after.files, after.pipes, after.kibibytes
    );
    let others = |taken: &Taken| taken.files - taken.pipes;
    assert!(
        others(&after) <= others(&before) + 4,
        "{} {}",
        others(&before),
        others(&after)
    );
    let pipes = after.pipes - fresh.pipes;
    assert!((1..=pools).contains(&pipes), "{pipes}");
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

/// No keepalive is sent then: the kernel sends the data again, and gives up after `net.ipv4.tcp_retries2` times.
#[test]
fn who_has_vanished_with_data_under_way_is_missed_once_the_kernel_gives_up() {
    let Some((cluster, target)) = cluster("unacked", 1, "") else {
        return;
    };
    let client = cluster.client();
    let few = [("net/ipv4/tcp_retries2", "4")];
    cluster.place("node1").sysctl(&few).unwrap();
    let silent = ask_all(&client, connect(&client, target, 10), stay);
    let loading = on_all(&client, connect(&client, target, 10), |mut stream| async move {
        stream.write_all(request("/bytes/20000000").as_bytes()).await?;
        stream.read_exact(&mut [0; 1000]).await?;
        stream.into_std()
    });
    cluster.cut_node("node1").unwrap();
    wait::until("clients that had not all are missed", PATIENCE, || {
        ended(&cluster, "client_reset") == 10
    })
    .unwrap();
    drop(loading);
    cluster.mend_node("node1").unwrap();
    cluster.unplug_task("web.1").unwrap();
    let told = on_all(&client, silent, |mut stream| async move {
        let error = ask(&mut stream).await.expect_err("nobody is there");
        Ok(error.kind())
    });
    assert_eq!(told, [std::io::ErrorKind::ConnectionReset; 10]);
    assert_eq!(ended(&cluster, "task_reset"), 10);
}
