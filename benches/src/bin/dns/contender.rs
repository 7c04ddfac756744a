//! Name servers that know the same names, one thread each.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use netns::address::{node, task};
use netns::{Cluster, Namespace, tool};
use serde::Serialize;

use crate::own;

/// Names that every server has itself, below [`DOMAIN`]: `n0` and so on.
pub const NAMES: u32 = 10_000;
/// Those of them that have an SRV record: dnsmasq looks through all of these one by one.
pub const PORTS: u32 = 100;
/// Names that every server asks the upstream for, below [`FAR`]: `f0` and so on.
pub const FOREIGN: u32 = 1_000;
pub const DOMAIN: &str = "portico.internal";
pub const FAR: &str = "far.example";
/// Of the servers' own names, in seconds.
const TTL: u32 = 5;
/// What is asked for above outlives any run.
const FAR_TTL: u32 = 86_400;
/// Where the upstream of all of them is; servers are on the ports above.
const UPSTREAM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Nothing but the harness.
    Echo,
    /// Without the limit of each client's questions, which dnsmasq and unbound do not have either.
    Portico,
    /// With it, set so high that nobody meets it.
    Counted,
    /// The whole agent, to which every name is a service.
    Agent,
    Dnsmasq,
    Unbound,
}

impl Contender {
    pub const ALL: [Self; 6] = [
        Self::Echo,
        Self::Portico,
        Self::Counted,
        Self::Agent,
        Self::Dnsmasq,
        Self::Unbound,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Echo => "harness alone",
            Self::Portico => "Portico",
            Self::Counted => "Portico, clients counted",
            Self::Agent => "Portico's agent",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
        }
    }

    pub fn address(self) -> SocketAddrV4 {
        SocketAddrV4::new(*UPSTREAM.ip(), UPSTREAM.port() + 1 + self as u16)
    }

    /// The command that serves at [`address`](Self::address), in the foreground; its files go to `directory`. The agent is
    /// the cluster's business.
    fn command(self, directory: &Path) -> Result<Vec<String>> {
        let own = std::env::current_exe()?.display().to_string();
        let listen = format!("--listen={}", self.address());
        let file = directory.join(format!("{self:?}.conf").to_lowercase());
        let path = file.display().to_string();
        Ok(match self {
            Self::Agent => bail!("an agent comes with its cluster"),
            Self::Echo => vec![own, "echo".into(), listen],
            Self::Portico | Self::Counted => {
                let mut command = serve(own, listen, "n", NAMES, DOMAIN, TTL);
                command.push(format!("--ports={PORTS}"));
                command.push(format!("--upstream={UPSTREAM}"));
                command.extend((self == Self::Counted).then(|| "--counted".to_owned()));
                command
            }
            Self::Dnsmasq => {
                fs::write(file, dnsmasq(self.address()))?;
                vec![
                    "dnsmasq".into(),
                    "--keep-in-foreground".into(),
                    format!("--conf-file={path}"),
                ]
            }
            Self::Unbound => {
                fs::write(file, unbound(self.address()))?;
                vec!["unbound".into(), "-d".into(), "-c".into(), path]
            }
        })
    }
}

/// A server that runs; it ends with this.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    /// None of an agent, which its cluster ends.
    child: Option<Child>,
}

impl Server {
    pub fn start(contender: Contender, place: &Namespace, directory: &Path) -> Result<Self> {
        Self::spawn(
            place,
            &contender.command(directory)?,
            &directory.join(format!("{contender:?}.log")),
        )
    }

    /// The upstream of all.
    pub fn upstream(place: &Namespace, directory: &Path) -> Result<Self> {
        let own = std::env::current_exe()?.display().to_string();
        let command = serve(own, format!("--listen={UPSTREAM}"), "f", FOREIGN, FAR, FAR_TTL);
        Self::spawn(place, &command, &directory.join("upstream.log"))
    }

    fn spawn(place: &Namespace, words: &[String], log: &Path) -> Result<Self> {
        let log = fs::File::create(log)?;
        let mut command: Command = place.command("taskset")?;
        command
            .args(["--cpu-list", &processor(1)])
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {words:?}"))?;
        Ok(Self {
            pid: child.id(),
            child: Some(child),
        })
    }

    /// The agent of a node that was told [`agent`] and [`services`]; from now on it has one processor.
    pub fn adopt(cluster: &Cluster, node: &str) -> Result<Self> {
        let agent = cluster.state.nodes[node].agent.context("the node has no agent")?;
        let pid = u32::try_from(agent.pid)?;
        let mut pin = Command::new("taskset");
        tool::run(pin.args([
            "--all-tasks",
            "--pid",
            "--cpu-list",
            &processor(1),
            &pid.to_string(),
        ]))?;
        Ok(Self { pid, child: None })
    }

    /// Processor time that it and its ended children have used, in seconds.
    pub fn used(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The second field is a name in brackets, and may have spaces; user, system, and the children's are 14 to 17.
        let (_, fields) = text.rsplit_once(") ").context("not a line of /proc/PID/stat")?;
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(4)
            .filter_map(|word| word.parse::<f64>().ok())
            .sum();
        Ok(ticks / ticks_per_second())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processor of the questions (0) or of the servers (1), as far as there are enough.
pub fn processor(end: usize) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (end % processors).to_string()
}

fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks.ok().flatten().unwrap_or(100) as f64
}

fn serve(own: String, listen: String, letter: &str, names: u32, domain: &str, ttl: u32) -> Vec<String> {
    let options = [
        format!("--letter={letter}"),
        format!("--names={names}"),
        format!("--domain={domain}"),
        format!("--ttl={ttl}"),
    ];
    [own, "serve".into(), listen].into_iter().chain(options).collect()
}

/// What the agent is told: the VIPs of its services are the addresses, and nobody meets the limit.
pub fn agent() -> String {
    format!(
        "[dns]\nlisten = [\"{}\"]\nupstreams = [\"{UPSTREAM}\"]\nrate = 1000000\n[vip]\npool = [\"10.0.0.0/16\"]\n",
        Contender::Agent.address()
    )
}

/// The same names as services of one task each.
pub fn services() -> String {
    let mut text = format!("nodes:\n  node1: {}\nservices:\n", node(0, 1).v4);
    for number in 0..NAMES {
        let port = if number < PORTS { "http=80" } else { "80" };
        let _ = writeln!(
            text,
            "  n{number}: {{ expose: [\"{port}\"], slots: 64, ttl: {TTL}s, backends: [{{ node: node1, address: {}, task: n{number}.1 }}] }}",
            task(2).v4
        );
    }
    text
}

/// dnsmasq keeps names of its own in the memory it answers from; nothing is read from the machine.
fn dnsmasq(at: SocketAddrV4) -> String {
    let mut text = format!(
        "user=root\npid-file=\nport={}\nlisten-address={}\nbind-interfaces\nno-hosts\nno-resolv\nno-poll\n\
         cache-size=20000\nlocal-ttl={TTL}\ndns-forward-max=2000\nlocal=/{DOMAIN}/\nserver={}#{}\n",
        at.port(),
        at.ip(),
        UPSTREAM.ip(),
        UPSTREAM.port()
    );
    for number in 0..NAMES {
        let _ = writeln!(text, "host-record=n{number}.{DOMAIN},{}", own::address(number));
    }
    for number in 0..PORTS {
        let _ = writeln!(
            text,
            "srv-host=_http._tcp.n{number}.{DOMAIN},n{number}.{DOMAIN},80,0,0"
        );
    }
    text
}

/// unbound without what costs and is not asked for here: DNSSEC, statistics, prefetching; with room for every answer.
fn unbound(at: SocketAddrV4) -> String {
    let mut text = format!(
        "server:\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n\
         \x20 interface: {}\n  port: {}\n  num-threads: 1\n  module-config: \"iterator\"\n\
         \x20 do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  minimal-responses: yes\n\
         \x20 msg-cache-size: 64m\n  rrset-cache-size: 128m\n  so-rcvbuf: 4m\n  so-sndbuf: 4m\n  incoming-num-tcp: 100\n\
         \x20 outgoing-range: 4096\n  num-queries-per-thread: 2048\n  statistics-interval: 0\n\
         \x20 local-zone: \"{DOMAIN}.\" static\n",
        at.ip(),
        at.port()
    );
    for number in 0..NAMES {
        let address = own::address(number);
        let _ = writeln!(text, "  local-data: \"n{number}.{DOMAIN}. {TTL} IN A {address}\"");
    }
    for number in 0..PORTS {
        let host = format!("n{number}.{DOMAIN}.");
        let _ = writeln!(
            text,
            "  local-data: \"_http._tcp.{host} {TTL} IN SRV 0 0 80 {host}\""
        );
    }
    let _ = writeln!(
        text,
        "remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}",
        UPSTREAM.ip(),
        UPSTREAM.port()
    );
    text
}
