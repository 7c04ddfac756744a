//! A container as an engine tells of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

const INSPECTED: &str = include_str!("../recorded/container.json");

/// A container; everything else about it is as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `restarting`, `exited`, ...
    pub state: String,
    /// `starting`, `healthy`, `unhealthy`; `None` where it has no health check.
    pub health: Option<String>,
    /// What its last probe printed.
    pub probe: String,
    /// By the name of the network.
    pub networks: BTreeMap<String, IpAddr>,
    /// As `80/tcp`.
    pub exposed: Vec<String>,
    /// As in `HostConfig.PortBindings`: port of the container, address and port of the node.
    pub published: Vec<(String, String, String)>,
    /// `host`, `bridge`, the name of a network.
    pub mode: String,
}

impl Container {
    /// A healthy one of a Compose project, on the project's network `PROJECT_default`.
    pub fn of_compose(project: &str, service: &str, number: u32, address: IpAddr) -> Self {
        let network = format!("{project}_default");
        let labels = [
            ("com.docker.compose.project", project),
            ("com.docker.compose.service", service),
            ("com.docker.compose.container-number", &number.to_string()),
            ("com.docker.compose.oneoff", "False"),
            ("com.docker.compose.version", "1.29.2"),
        ];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        Self {
            labels: labels.into(),
            networks: [(network.clone(), address)].into(),
            mode: network,
            health: Some("healthy".into()),
            ..Self::plain(&format!("{project}_{service}_{number}"))
        }
    }

    /// One that is on no network and has neither labels nor a health check.
    pub fn plain(name: &str) -> Self {
        Self {
            id: id_of(name),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            state: "running".into(),
            health: None,
            probe: String::new(),
            networks: BTreeMap::new(),
            exposed: Vec::new(),
            published: Vec::new(),
            mode: "none".into(),
        }
    }

    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// `GET /containers/ID/json`.
    pub fn inspected(&self) -> Value {
        let mut answer: Value = serde_json::from_str(INSPECTED).expect("what was recorded is JSON");
        answer["Id"] = json!(self.id);
        answer["Name"] = json!(format!("/{}", self.name));
        let runs = matches!(&*self.state, "running" | "paused" | "restarting");
        let state = &mut answer["State"];
        state["Status"] = json!(self.state);
        state["Running"] = json!(runs);
        state["Paused"] = json!(self.state == "paused");
        state["Restarting"] = json!(self.state == "restarting");
        match &self.health {
            Some(health) => {
                state["Health"]["Status"] = json!(health);
                state["Health"]["Log"][0]["Output"] = json!(self.probe);
            }
            None => {
                if let Some(state) = state.as_object_mut() {
                    state.remove("Health");
                }
                answer["Config"]["Healthcheck"] = Value::Null;
            }
        }
        answer["Config"]["Labels"] = json!(self.labels);
        answer["Config"]["Hostname"] = json!(self.id[..12]);
        let exposed = self.exposed.iter().map(|port| (port.clone(), json!({})));
        answer["Config"]["ExposedPorts"] = exposed.collect::<serde_json::Map<_, _>>().into();
        answer["HostConfig"]["NetworkMode"] = json!(self.mode);
        let mut bindings = serde_json::Map::new();
        for (port, address, host) in &self.published {
            let bound = bindings.entry(port.clone()).or_insert_with(|| json!([]));
            if let Some(bound) = bound.as_array_mut() {
                bound.push(json!({ "HostIp": address, "HostPort": host }));
            }
        }
        answer["HostConfig"]["PortBindings"] = bindings.into();
        answer["NetworkSettings"]["Networks"] = self.joined();
        answer
    }

    /// Its entry in `GET /containers/json`.
    pub fn listed(&self) -> Value {
        let health = self.health.as_deref().map(|health| format!(" ({health})"));
        json!({
            "Id": self.id,
            "Names": [format!("/{}", self.name)],
            "Image": "mesh/web:1",
            "Command": "/task",
            "Created": 1_795_218_718,
            "Ports": [],
            "Labels": self.labels,
            "State": self.state,
            "Status": format!("Up 1 second{}", health.unwrap_or_default()),
            "HostConfig": { "NetworkMode": self.mode },
            "NetworkSettings": { "Networks": self.joined() },
            "Mounts": [],
        })
    }

    /// What is told of it.
    pub fn event(&self, action: &str, attributes: &[(&str, String)]) -> Value {
        let mut all = self.labels.clone();
        all.insert("name".into(), self.name.clone());
        all.extend(
            attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        json!({
            "status": action, "id": self.id, "from": "mesh/web:1",
            "Type": "container", "Action": action, "Actor": { "ID": self.id, "Attributes": all },
            "scope": "local", "time": 1_795_218_746, "timeNano": 1_795_218_746_122_843_686_u64,
        })
    }

    fn joined(&self) -> Value {
        let networks = self.networks.iter().map(|(network, address)| {
            let (v4, v6) = match address {
                IpAddr::V4(address) => (address.to_string(), String::new()),
                IpAddr::V6(address) => (String::new(), address.to_string()),
            };
            let joined = json!({
                "IPAMConfig": null, "Links": null,
                "Aliases": [&self.id[..12], self.labels.get("com.docker.compose.service")],
                "NetworkID": id_of(network), "EndpointID": id_of(&format!("{network} {}", self.id)),
                "Gateway": if v4.is_empty() { "" } else { "172.18.0.1" },
                "IPAddress": v4, "IPPrefixLen": 16,
                "IPv6Gateway": "", "GlobalIPv6Address": v6, "GlobalIPv6PrefixLen": 0,
                "MacAddress": "02:42:ac:13:00:03", "DriverOpts": null,
            });
            (network.clone(), joined)
        });
        networks.collect::<serde_json::Map<_, _>>().into()
    }
}

/// 64 hexadecimal digits, the same for the same name.
fn id_of(name: &str) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut digits = String::new();
    for round in 0..4_u8 {
        for byte in name.bytes().chain([round]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        digits.push_str(&format!("{state:016x}"));
    }
    digits
}
