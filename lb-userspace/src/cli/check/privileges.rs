//! What this process may do, and so an agent started the same way: what is needed depends on what is to serve.

use super::finding::Finding;
use crate::api::published::{Port, Published};
use crate::config::{Config, Mode};
use crate::model::Protocol;
use crate::outside;

/// Bits of the capability sets (linux/capability.h).
const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Ports from here on anybody may listen at.
const FREE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

pub fn check(config: &Config, published: Option<&Published>) -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let free = std::fs::read_to_string(FREE).ok();
    let free = free.and_then(|free| free.trim().parse().ok()).unwrap_or(1024);
    let Some(set) = effective(&status) else {
        let words = "/proc/self/status does not tell them";
        return vec![Finding::warning("capabilities", words, "mount /proc")];
    };
    capabilities(set, config.mode, &Listening::of(config, published, free))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// What sockets have to do with rights.
#[derive(Debug, Default)]
struct Listening {
    /// The lowest port among those that are not for everybody to listen at.
    low: Option<u16>,
    /// Whether there are services of datagrams.
    udp: bool,
}

impl Listening {
    /// `free`: the first port for everybody.
    fn of(config: &Config, published: Option<&Published>, free: u16) -> Self {
        let services = published.into_iter().flat_map(|published| &published.services);
        let ports: Vec<&Port> = services.flat_map(|service| &service.ports).collect();
        let names = config.dns.listen.iter().map(|address| address.port());
        let all = ports.iter().map(|port| port.port).chain(names);
        Self {
            low: all.filter(|port| *port < free).min(),
            udp: ports.iter().any(|port| port.protocol == Protocol::Udp),
        }
    }
}

fn capabilities(set: u64, mode: Mode, listening: &Listening) -> Vec<Finding> {
    let has = |bit: u32| set & 1 << bit != 0;
    let mut findings = Vec::new();
    findings.extend(match mode {
        Mode::Proxy => of_the_proxy(has, listening),
        Mode::Auto | Mode::Ebpf => of_packet_programs(has, mode),
    });
    // Whatever the mode: the proxy serves what packet programs cannot.
    findings.extend(listening.low.filter(|_| !has(NET_BIND_SERVICE)).map(|port| {
        let words = format!(
            "CAP_NET_BIND_SERVICE missing: the proxy and the name server cannot listen at port {port}"
        );
        Finding::warning("capabilities", words, remedy("NET_BIND_SERVICE"))
    }));
    if findings.is_empty() {
        findings.push(match mode {
            Mode::Proxy => Finding::ok("capabilities", "enough for all that the proxy does"),
            Mode::Auto | Mode::Ebpf => Finding::ok("capabilities", "enough to load and attach programs"),
        });
    }
    findings
}

/// It serves published ports without any of these.
fn of_the_proxy(has: impl Fn(u32) -> bool, listening: &Listening) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !has(NET_ADMIN) {
        findings.push(Finding::warning(
            "capabilities",
            "CAP_NET_ADMIN missing: published ports are served, but nothing leads to VIPs, and no task sees its clients' \
             addresses (transparent)",
            remedy("NET_ADMIN"),
        ));
    }
    if listening.udp && !has(NET_RAW) {
        findings.push(Finding::warning(
            "capabilities",
            "CAP_NET_RAW missing: clients of UDP services are not told when a task refuses their datagrams",
            remedy("NET_RAW"),
        ));
    }
    findings
}

fn of_packet_programs(has: impl Fn(u32) -> bool, mode: Mode) -> Vec<Finding> {
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    // The verifier lets only those who have it use packet pointers freely.
    if !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let otherwise = match mode {
        Mode::Auto => "; or set mode = \"proxy\" in portico.toml, which does without",
        Mode::Ebpf | Mode::Proxy => "",
    };
    let words = format!(
        "{} missing: programs cannot be loaded or attached",
        missing.join(", ")
    );
    let remedy = if outside::is_contained() {
        "give the container NET_ADMIN and SYS_ADMIN (cap_add)"
    } else {
        "run as root, or give the agent's unit AmbientCapabilities= with these"
    };
    vec![Finding::failure(
        "capabilities",
        words,
        format!("{remedy}{otherwise}"),
    )]
}

fn remedy(capability: &str) -> String {
    if outside::is_contained() {
        format!("give the container {capability} (cap_add)")
    } else {
        format!("run as root, or give the agent's unit AmbientCapabilities=CAP_{capability}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::published::Answering;
    use crate::cli::check::finding::State;

    /// Of the only finding.
    fn found(set: u64, mode: Mode, listening: &Listening) -> (State, String) {
        let [finding] = &capabilities(set, mode, listening)[..] else {
            panic!("one finding")
        };
        (finding.state, finding.words.clone())
    }

    #[test]
    fn what_is_missing_is_named() {
        let nothing = Listening::default();
        let all = effective("Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap();
        let none = effective("CapEff:\t0000000000000000\n").unwrap();
        for mode in [Mode::Auto, Mode::Ebpf] {
            assert_eq!(found(all, mode, &nothing).0, State::Ok);
            let (state, words) = found(none, mode, &nothing);
            assert_eq!(state, State::Failure);
            assert!(words.starts_with("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON missing"));
            let older = 1 << NET_ADMIN | 1 << SYS_ADMIN;
            assert_eq!(found(older, mode, &nothing).0, State::Ok);
        }
    }

    #[test]
    fn the_proxy_is_asked_for_what_it_needs_alone() {
        let wanted = Listening {
            low: Some(53),
            udp: true,
        };
        let enough = 1 << NET_ADMIN | 1 << NET_RAW | 1 << NET_BIND_SERVICE;
        assert_eq!(found(enough, Mode::Proxy, &wanted).0, State::Ok);
        for (bit, name) in [
            (NET_ADMIN, "CAP_NET_ADMIN missing"),
            (NET_RAW, "CAP_NET_RAW missing"),
            (NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE missing"),
        ] {
            let (state, words) = found(enough & !(1 << bit), Mode::Proxy, &wanted);
            assert_eq!(state, State::Warning);
            assert!(words.starts_with(name), "{words}");
        }
        // Nobody misses what nothing needs.
        let nothing = Listening::default();
        assert_eq!(found(1 << NET_ADMIN, Mode::Proxy, &nothing).0, State::Ok);
    }

    #[test]
    fn ports_for_everybody_need_no_right() {
        let port = |port, protocol| Port {
            port,
            protocol,
            expected: false,
        };
        let published = Published {
            services: vec![Answering {
                ports: vec![port(8080, Protocol::Udp), port(443, Protocol::Tcp)],
                ..Answering::default()
            }],
            ..Published::default()
        };
        let mut config = Config::default();
        config.dns.listen.clear();
        let listening = Listening::of(&config, Some(&published), 1024);
        assert_eq!((listening.low, listening.udp), (Some(443), true));
        assert_eq!(Listening::of(&config, Some(&published), 80).low, None);
    }
}
