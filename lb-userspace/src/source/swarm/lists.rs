//! What a manager answers to `/nodes`, `/networks`, `/services` and `/tasks`: the parts of it that matter here. Where Go
//! has nothing it writes `null`, or leaves the key out.

mod time;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub use time::Nanoseconds;

/// All four, asked for one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    pub nodes: Vec<Node>,
    pub networks: Vec<Network>,
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    #[serde(rename = "ID")]
    pub id: String,
    pub created_at: Nanoseconds,
    pub updated_at: Nanoseconds,
    pub spec: NodeSpec,
    #[serde(deserialize_with = "or_null")]
    pub description: Description,
    #[serde(deserialize_with = "or_null")]
    pub status: NodeStatus,
    pub manager_status: Option<ManagerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeSpec {
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// `active`, `pause` or `drain`.
    pub availability: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Description {
    pub hostname: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// `unknown`, `ready`, `down` or `disconnected`.
    pub state: String,
    pub addr: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    pub leader: bool,
    /// With the port of the managers' own conversation.
    pub addr: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub internal: bool,
    /// The one that the swarm's own mesh uses.
    pub ingress: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    #[serde(rename = "ID")]
    pub id: String,
    pub created_at: Nanoseconds,
    /// With whatever is written of it.
    pub updated_at: Nanoseconds,
    pub spec: ServiceSpec,
    #[serde(deserialize_with = "or_null")]
    pub endpoint: Endpoint,
    pub update_status: Option<UpdateStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    pub name: String,
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    pub task_template: TaskSpec,
    #[serde(deserialize_with = "or_null")]
    pub mode: Mode,
    /// Where clients of API versions before 1.25 wrote them.
    #[serde(deserialize_with = "or_null")]
    pub networks: Vec<Target>,
    #[serde(deserialize_with = "or_null")]
    pub endpoint_spec: EndpointSpec,
}

/// One of them is there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mode {
    pub replicated: Option<Replicated>,
    pub global: Option<Nothing>,
    pub replicated_job: Option<Nothing>,
    pub global_job: Option<Nothing>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replicated {
    pub replicas: Option<u64>,
}

/// An object whose content does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Nothing {}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    #[serde(deserialize_with = "or_null")]
    pub container_spec: ContainerSpec,
    #[serde(deserialize_with = "or_null")]
    pub networks: Vec<Target>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
}

/// A network of a service: its id, or its name where somebody wrote that.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Target {
    pub target: String,
    #[serde(deserialize_with = "or_null")]
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// `vip` or `dnsrr`; empty: `vip`.
    pub mode: String,
    #[serde(deserialize_with = "or_null")]
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    #[serde(deserialize_with = "or_null")]
    pub ports: Vec<Port>,
    #[serde(rename = "VirtualIPs", deserialize_with = "or_null")]
    pub virtual_ips: Vec<VirtualIp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`; empty: `tcp`.
    pub protocol: String,
    pub target_port: u16,
    /// 0 until the swarm has chosen one.
    pub published_port: u16,
    /// `ingress` or `host`; empty: `ingress`.
    pub publish_mode: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VirtualIp {
    #[serde(rename = "NetworkID")]
    pub network: String,
    /// With the length of the network's prefix.
    pub addr: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateStatus {
    /// `updating`, `paused`, `completed`, `rollback_started`, `rollback_paused` or `rollback_completed`.
    pub state: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    #[serde(rename = "ID")]
    pub id: String,
    pub created_at: Nanoseconds,
    pub updated_at: Nanoseconds,
    #[serde(rename = "ServiceID")]
    pub service: String,
    /// 0 or absent: of a global service.
    pub slot: u64,
    /// Empty until it has been placed.
    #[serde(rename = "NodeID")]
    pub node: String,
    pub status: TaskStatus,
    pub desired_state: State,
    #[serde(deserialize_with = "or_null")]
    pub networks_attachments: Vec<Attached>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskStatus {
    pub state: State,
}

/// In the order in which a task goes through them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    New,
    Allocated,
    Pending,
    Assigned,
    Accepted,
    Preparing,
    Ready,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
    Orphaned,
    /// What a later engine has.
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attached {
    pub network: AttachedNetwork,
    /// With the length of the network's prefix.
    #[serde(deserialize_with = "or_null")]
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedNetwork {
    #[serde(rename = "ID")]
    pub id: String,
    pub spec: AttachedSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedSpec {
    pub name: String,
    pub internal: bool,
    pub ingress: bool,
}

fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
