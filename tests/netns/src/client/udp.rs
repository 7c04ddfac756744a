//! A UDP sender at a steady rate that accounts for every packet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::Type;

use super::Pace;
use crate::namespace::{Namespace, Running};
use crate::wait;

/// How long after the last packet answers are waited for.
const TAIL: Duration = Duration::from_millis(300);
/// A flow is answered at once; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of one packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Since the sender began.
    pub sent: Duration,
    pub answered: Option<Echo>,
}

/// An answer of the lab's task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    pub at: Duration,
    pub task: String,
    pub client: IpAddr,
}

/// All packets of one flow, in the order sent.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub packets: Vec<Packet>,
}

impl Account {
    pub fn lost(&self) -> usize {
        self.packets
            .iter()
            .filter(|packet| packet.answered.is_none())
            .count()
    }

    pub fn by_task(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for echo in self.packets.iter().filter_map(|packet| packet.answered.as_ref()) {
            *count.entry(echo.task.as_str()).or_default() += 1;
        }
        count
    }

    /// The task that answered last.
    pub fn last_task(&self) -> Option<&str> {
        let mut answered = self
            .packets
            .iter()
            .rev()
            .filter_map(|packet| packet.answered.as_ref());
        answered.next().map(|echo| echo.task.as_str())
    }

    /// The longest time in which no packet was sent that was answered, the end included.
    pub fn longest_silence(&self) -> Duration {
        let answered = self.packets.iter().filter(|packet| packet.answered.is_some());
        let mut moments: Vec<Duration> = answered.map(|packet| packet.sent).collect();
        moments.extend(self.packets.last().map(|packet| packet.sent));
        moments
            .windows(2)
            .map(|two| two[1] - two[0])
            .max()
            .unwrap_or(Duration::MAX)
    }
}

/// A sender that runs.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    work: Running<Result<Account>>,
}

impl Sender {
    /// One socket, so one flow, from a namespace to a target.
    pub fn start(from: &Namespace, target: SocketAddr, rate: f64) -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let work = from.spawn(move || send(target, rate, &own));
        Self { shared, work }
    }

    /// Waits until so many more answers have come.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        let answers = || self.shared.answers.load(Ordering::Relaxed);
        let goal = answers() + more;
        wait::until("the flow is answered", PATIENCE, || answers() >= goal).map(drop)
    }

    pub fn stop(self) -> Result<Account> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.work.join()?
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicUsize,
}

fn send(target: SocketAddr, rate: f64, shared: &Shared) -> Result<Account> {
    let socket = connect(target, None)?;
    socket.set_nonblocking(true)?;
    let start = Instant::now();
    let mut pace = Pace::new(rate, Duration::ZERO);
    let mut account = Account::default();
    while !shared.stop.load(Ordering::Relaxed) {
        pace.wait();
        let number = account.packets.len();
        account.packets.push(Packet {
            sent: start.elapsed(),
            answered: None,
        });
        // A port reported unreachable earlier shows up here: this packet counts as lost unless it is answered.
        let _ = socket.send(number.to_string().as_bytes());
        let answers = collect(&socket, start, &mut account);
        shared.answers.fetch_add(answers, Ordering::Relaxed);
    }
    let end = Instant::now() + TAIL;
    while Instant::now() < end && account.lost() > 0 {
        std::thread::sleep(Duration::from_millis(5));
        collect(&socket, start, &mut account);
    }
    Ok(account)
}

/// Takes in the answers that are there, and counts them.
fn collect(socket: &UdpSocket, start: Instant, account: &mut Account) -> usize {
    let mut answers = 0;
    let mut buffer = [0; 2048];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let Some((task, client, payload)) = parse(&buffer[..length]) else {
                    continue;
                };
                let Some(packet) = payload
                    .parse()
                    .ok()
                    .and_then(|n: usize| account.packets.get_mut(n))
                else {
                    continue;
                };
                answers += 1;
                packet.answered = Some(Echo {
                    at: start.elapsed(),
                    task,
                    client,
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return answers,
        }
    }
}

/// Sends one packet from a namespace and waits for its answer: the task, and the client as it saw it.
pub fn ask(from: &Namespace, target: SocketAddr) -> Result<(String, IpAddr)> {
    from.run(|| {
        let socket = connect(target, None)?;
        exchange(&socket, target)
    })?
}

/// The same from one port to all targets in turn. What another than the one asked says is no answer.
pub fn ask_from(from: &Namespace, own: SocketAddr, targets: &[SocketAddr]) -> Result<Vec<(String, IpAddr)>> {
    from.run(|| {
        let socket = UdpSocket::bind(own)?;
        let answers = targets.iter().map(|&target| {
            socket.connect(target)?;
            exchange(&socket, target)
        });
        answers.collect()
    })?
}

/// By a socket that is connected.
fn exchange(socket: &UdpSocket, target: SocketAddr) -> Result<(String, IpAddr)> {
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut buffer = [0; 2048];
    // A datagram may be lost, as on any network; five in a row are not.
    for _ in 0..5 {
        socket.send(b"hello")?;
        if let Ok(length) = socket.recv(&mut buffer) {
            let (task, client, _) = parse(&buffer[..length]).context("not an answer of the lab's task")?;
            return Ok((task, client));
        }
    }
    anyhow::bail!("no answer from {target} over UDP")
}

pub fn connect(target: SocketAddr, source: Option<IpAddr>) -> Result<UdpSocket> {
    let socket = super::socket(Type::DGRAM, target, source)?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Reads `task=… client=… <payload>`.
fn parse(datagram: &[u8]) -> Option<(String, IpAddr, String)> {
    let text = std::str::from_utf8(datagram).ok()?;
    let (task, rest) = text.strip_prefix("task=")?.split_once(" client=")?;
    let (client, payload) = rest.split_once(' ')?;
    Some((task.to_owned(), client.parse().ok()?, payload.to_owned()))
}
