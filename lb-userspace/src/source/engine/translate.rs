//! From the engine's answers to what is kept of them. Whatever is missing or strange in an answer is left out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as State, EndpointSettings,
    Health as Checked, HealthStatusEnum as Checkup, LocalNodeState, PortMap, SwarmInfo, SystemInfo,
};

use super::instant::nanoseconds;
use super::local::{Container, Health, Joined, Manager, Membership, Published, Run, short};
use crate::model::Protocol;

/// How long an engine waits after the stop signal where nobody says.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest line of a probe that is kept.
const LINE: usize = 120;

/// A container as it is inspected.
pub struct Inspected {
    pub container: Container,
    /// The container (id or name) whose network it shares.
    pub borrows: Option<Arc<str>>,
    pub stop_signal: Option<String>,
    pub stop_timeout: Duration,
    /// As the engine writes it: another start has another.
    pub started: Option<String>,
}

/// `None` where not even an id is in it.
pub fn container(answer: ContainerInspectResponse) -> Option<Inspected> {
    let id: Arc<str> = answer.id.filter(|id| !id.is_empty())?.into();
    let name = answer.name.as_deref().unwrap_or_default().trim_start_matches('/');
    let name: Arc<str> = if name.is_empty() {
        short(&id).into()
    } else {
        name.into()
    };
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let host_config = answer.host_config.unwrap_or_default();
    let settings = answer.network_settings.unwrap_or_default();
    let mode = host_config.network_mode.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default();
    // What is not started yet has its ports in its configuration alone, and a started one has there what was asked for:
    // a random port is one even though it is known by now.
    let published = published(&host_config.port_bindings.unwrap_or_default());
    let exposed = config.exposed_ports.unwrap_or_default();
    let container = Container {
        name,
        created: answer.created.as_deref().and_then(nanoseconds).unwrap_or(0),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        run: run(&state),
        health: state.health.as_ref().and_then(health),
        stopping: state.status == Some(State::STOPPING),
        host: mode == "host" || networks.contains_key("host"),
        networks: networks
            .iter()
            .map(|(name, joined)| (name.as_str().into(), place(joined, &id)))
            .collect(),
        exposed: sorted(exposed.iter().filter_map(|port| target(port))),
        published,
        id,
    };
    Some(Inspected {
        container,
        started: state.started_at,
        borrows: mode.strip_prefix("container:").map(Arc::from),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        stop_timeout: config
            .stop_timeout
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(STOP_TIMEOUT, Duration::from_secs),
    })
}

/// What the engine is to a swarm; `None` where it is in none.
pub fn membership(info: &SystemInfo) -> Option<Membership> {
    let swarm: &SwarmInfo = info.swarm.as_ref()?;
    let state = swarm.local_node_state?;
    if matches!(state, LocalNodeState::EMPTY | LocalNodeState::INACTIVE) {
        return None;
    }
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let error = text(&swarm.error).or(match state {
        LocalNodeState::PENDING => Some("the engine has not joined its swarm yet".to_owned()),
        LocalNodeState::LOCKED => Some("the swarm is locked: docker swarm unlock".to_owned()),
        LocalNodeState::ERROR => Some("the engine cannot reach its swarm".to_owned()),
        _ => None,
    });
    let managers = swarm.remote_managers.iter().flatten().filter_map(|manager| {
        Some(Manager {
            node: manager.node_id.as_deref()?.into(),
            address: manager.addr.as_deref()?.parse().ok()?,
        })
    });
    Some(Membership {
        node: text(&swarm.node_id).unwrap_or_default().into(),
        address: swarm
            .node_addr
            .as_deref()
            .and_then(|address| address.parse().ok()),
        manager: swarm.control_available.unwrap_or(false),
        managers: managers.collect(),
        error,
    })
}

/// What an address on a network is without the length of its prefix.
pub fn bare(address: &str) -> Option<IpAddr> {
    let address = address.split('/').next()?.parse::<IpAddr>().ok()?;
    (!address.is_unspecified()).then_some(address)
}

fn run(state: &ContainerState) -> Run {
    match state.status {
        Some(State::RUNNING | State::STOPPING) => Run::Running,
        Some(State::PAUSED) => Run::Paused,
        Some(State::RESTARTING) => Run::Restarting,
        Some(State::CREATED) => Run::Created,
        Some(State::REMOVING | State::EXITED | State::DEAD) => Run::Ended,
        Some(State::EMPTY) | None => {
            let is = |flag: Option<bool>| flag == Some(true);
            match state {
                _ if is(state.paused) => Run::Paused,
                _ if is(state.restarting) => Run::Restarting,
                _ if is(state.running) => Run::Running,
                _ => Run::Ended,
            }
        }
    }
}

fn health(checked: &Checked) -> Option<Health> {
    match checked.status? {
        Checkup::EMPTY | Checkup::NONE => None,
        Checkup::STARTING => Some(Health::Starting),
        Checkup::HEALTHY => Some(Health::Healthy),
        Checkup::UNHEALTHY => {
            let last = checked.log.iter().flatten().next_back();
            let output = last.and_then(|probe| probe.output.as_deref()).unwrap_or_default();
            let line = output
                .lines()
                .map(str::trim)
                .rfind(|line| !line.is_empty())
                .unwrap_or_default();
            let plain = line.chars().filter(|c| !c.is_control()).take(LINE);
            Some(Health::Unhealthy(plain.collect::<String>().into()))
        }
    }
}

fn place(joined: &EndpointSettings, id: &str) -> Joined {
    let address = |text: &Option<String>| text.as_deref().and_then(bare);
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let (v4, v6) = (address(&joined.ip_address), address(&joined.global_ipv6_address));
    let aliases = joined
        .aliases
        .iter()
        .flatten()
        .filter(|alias| **alias != short(id));
    let mut aliases: Vec<Arc<str>> = aliases.map(|alias| alias.as_str().into()).collect();
    aliases.sort_unstable();
    aliases.dedup();
    Joined {
        addresses: [v4.filter(IpAddr::is_ipv4), v6.filter(IpAddr::is_ipv6)]
            .into_iter()
            .flatten()
            .collect(),
        aliases,
        gateway: given(&joined.gateway) || given(&joined.ipv6_gateway),
        priority: joined.gw_priority.unwrap_or(0),
    }
}

/// `80/tcp`, and `80`.
fn target(port: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((port, protocol))
}

fn published(bindings: &PortMap) -> Vec<Published> {
    let mut all = Vec::new();
    for (port, places) in bindings {
        let Some((target_port, protocol)) = target(port) else {
            continue;
        };
        for place in places.iter().flatten() {
            let address = place.host_ip.as_deref().filter(|address| !address.is_empty());
            let everywhere =
                |address: &IpAddr| *address == Ipv4Addr::UNSPECIFIED || *address == Ipv6Addr::UNSPECIFIED;
            let address = match address.map(str::parse::<IpAddr>) {
                None => None,
                Some(Ok(address)) => Some(address).filter(|address| !everywhere(address)),
                Some(Err(_)) => continue,
            };
            // A range means that any free port of it was taken.
            let port = place
                .host_port
                .as_deref()
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0);
            all.push(Published {
                address,
                port,
                protocol,
                target_port,
            });
        }
    }
    let key = |published: &Published| {
        (
            published.target_port,
            published.protocol,
            published.port,
            published.address,
        )
    };
    all.sort_by_key(key);
    all.dedup();
    all
}

fn sorted(ports: impl Iterator<Item = (u16, Protocol)>) -> Vec<(u16, Protocol)> {
    let mut ports: Vec<_> = ports.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Whose networks a container is on, by the engine's list.
pub type Networks = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// The addresses of a list's entry, by network.
pub fn addresses(networks: &HashMap<String, EndpointSettings>) -> Networks {
    networks
        .iter()
        .map(|(name, joined)| (name.as_str().into(), place(joined, "").addresses))
        .collect()
}
