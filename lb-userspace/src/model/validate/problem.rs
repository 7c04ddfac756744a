//! What can be wrong, in words, and what to do about it.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::{Frontend, Need, Protocol};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not a name: 1 to 255 bytes without spaces are")]
    Name,
    #[error("{address} {why}")]
    Address { address: IpAddr, why: &'static str },
    #[error("node {other} has this address too")]
    SharedNodeAddress { other: Arc<str> },
    #[error("0 is not a port")]
    Port,
    #[error("this is the address of node {node}")]
    VipOfNode { node: Arc<str> },
    #[error("{frontend} is published twice; service {other} has it already")]
    DuplicateFrontend { frontend: Frontend, other: Arc<str> },
    #[error("port {port}/{} is exposed twice", protocol.label())]
    DuplicateExposed { port: u16, protocol: Protocol },
    #[error("port {other}/{} is called {name} already", protocol.label())]
    DuplicatePortName {
        name: Arc<str>,
        other: u16,
        protocol: Protocol,
    },
    #[error("`{name}` cannot be asked for as a name")]
    HostName { name: Arc<str> },
    #[error("without a network nobody could ask for the service")]
    NoNetwork,
    #[error("slots: {slots} is not a power of two from 64 to 1048576")]
    Slots { slots: u32 },
    #[error("{count} backends are more than a service can have (65534)")]
    TooManyBackends { count: usize },
    #[error("the health check has no port to probe")]
    HealthPort,
    #[error("the health check's timeout must be more than nothing and not more than its interval")]
    HealthTimeout,
    #[error("the health check's failures and successes must be at least 1")]
    HealthThreshold,
    #[error("{need}, which only the proxy does, and eBPF alone is wanted")]
    OnlyProxied { need: Need },
    #[error("the time for connecting and that of idle connections must be more than nothing")]
    NoTime,
    #[error("node {node} is not listed under nodes")]
    UnknownNode { node: Arc<str>, nearest: Option<String> },
    #[error("weight {weight} is not within 1 to 256")]
    Weight { weight: u32 },
    #[error("backend {task} is listed twice")]
    DuplicateBackend { task: Arc<str> },
    #[error("the backend has no address")]
    NoAddress,
    #[error("the backend has two addresses of one family")]
    TwoAddresses,
}

impl Problem {
    /// What to do next.
    pub fn fix(&self) -> String {
        match self {
            Self::Name => "rename it".into(),
            Self::Address { .. } => "write the address under which other machines reach it".into(),
            Self::SharedNodeAddress { .. } => "give each node its own underlay address".into(),
            Self::Port => "write a port from 1 to 65535".into(),
            Self::VipOfNode { .. } => {
                "leave vips out: a port without them answers on every address of every node".into()
            }
            Self::DuplicateFrontend { .. } => {
                "publish one of the two on another port, protocol or VIP".into()
            }
            Self::DuplicateExposed { .. } => "remove one".into(),
            Self::DuplicatePortName { .. } => "give each port of a protocol a name of its own".into(),
            Self::HostName { .. } => {
                "write letters, digits, hyphens and underscores, 1 to 63 between two dots".into()
            }
            Self::NoNetwork => "name the network `default`, which everybody sees".into(),
            Self::Slots { slots } => {
                format!("write {}", slots.clamp(&64, &(1 << 20)).next_power_of_two())
            }
            Self::TooManyBackends { .. } => "split the service".into(),
            Self::HealthPort => "add port: NUMBER to the health check".into(),
            Self::HealthTimeout => "set timeout to at most the interval".into(),
            Self::HealthThreshold => "write 1 or more".into(),
            Self::OnlyProxied { .. } => "leave plane out, or what only the proxy does".into(),
            Self::NoTime => "leave both out".into(),
            Self::UnknownNode {
                nearest: Some(nearest),
                ..
            } => {
                format!("did you mean {nearest}? else add the node and its address under nodes")
            }
            Self::UnknownNode { .. } => "add the node and its address under nodes".into(),
            Self::Weight { .. } => "write a weight from 1 to 256".into(),
            Self::DuplicateBackend { .. } => {
                "remove one; give different tasks different names (task:) and addresses".into()
            }
            Self::NoAddress => "add address: IP".into(),
            Self::TwoAddresses => "list at most one IPv4 and one IPv6 address".into(),
        }
    }
}
