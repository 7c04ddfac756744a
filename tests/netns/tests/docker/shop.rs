//! A shop on one machine: `web` in as many replicas as wanted, made by Compose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netns::client::http;
use netns::engine::IMAGE;
use netns::testing::{self, Stage};
use netns::{Cluster, wait};
use serde_json::Value;

pub const NODE: &str = "node1";
/// Of the Compose project.
pub const PROJECT: &str = "shop";
/// What Portico calls its service `web`.
pub const WEB: &str = "shop_web";
/// Far more than any change takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One machine with an engine and an agent.
pub fn machine(name: &str) -> netns::builder::Builder {
    testing::cluster(name).nodes(1).engines()
}

/// The project, at the engine of a cluster.
pub struct Shop {
    pub cluster: Stage,
    file: PathBuf,
}

impl Shop {
    /// Opens with some replicas of `web`, which nodes serve at port 8080.
    pub fn open(cluster: Stage, replicas: u32) -> Self {
        Self::open_with(cluster, replicas, "")
    }

    /// The same with more lines of the Compose file.
    pub fn open_with(cluster: Stage, replicas: u32, more: &str) -> Self {
        let text = format!(
            "version: \"2.4\"
services:
  web:
    image: {IMAGE}
    environment: [SERVICE=web]
    labels: {{ portico.ports: \"8080:80\" }}
    restart: always
{more}"
        );
        let file = cluster.write_file("shop.yaml", &text).unwrap();
        let shop = Self { cluster, file };
        shop.scale(replicas);
        shop
    }

    /// As a person does it; waits until all replicas are served.
    pub fn scale(&self, replicas: u32) {
        let began = Instant::now();
        self.compose(&["up", "--detach", "--scale", &format!("web={replicas}")]);
        let typed = began.elapsed();
        wait_served(&self.cluster, WEB, replicas as usize);
        println!(
            "web={replicas}: docker-compose took {typed:?}, {:?} later all were served",
            began.elapsed() - typed
        );
    }

    pub fn compose(&self, arguments: &[&str]) -> String {
        self.cluster
            .compose(NODE, PROJECT, &self.file, arguments)
            .unwrap()
    }

    pub fn docker(&self, arguments: &[&str]) -> String {
        self.cluster.docker(NODE, arguments).unwrap()
    }

    /// Host names of the replicas, which is what tasks call themselves, by container name.
    pub fn replicas(&self) -> BTreeMap<String, String> {
        let filter = "label=com.docker.compose.service=web";
        let names = self.docker(&["ps", "--filter", filter, "--format", "{{.Names}}"]);
        names
            .lines()
            .map(|name| (name.to_owned(), self.cluster.hostname(NODE, name).unwrap()))
            .collect()
    }

    /// Where the client asks for `web`.
    pub fn published(&self) -> SocketAddr {
        published(&self.cluster, 8080)
    }

    /// Who answers so many new connections of the client.
    pub fn answers(&self, count: usize) -> BTreeSet<String> {
        answers(&self.cluster, self.published(), count)
    }
}

/// A port of the first node, as the client asks for it.
pub fn published(cluster: &Cluster, port: u16) -> SocketAddr {
    SocketAddr::new(cluster.state.nodes[NODE].address(0).v4.into(), port)
}

/// Who answers so many new connections of the client; every one must be answered.
pub fn answers(cluster: &Cluster, target: SocketAddr, count: usize) -> BTreeSet<String> {
    let client = cluster.client();
    (0..count)
        .map(|_| http::ask(&client, target).unwrap().task)
        .collect()
}

/// What the node says of the tasks of a service.
pub fn states(cluster: &Cluster, service: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let rows = cluster.portico_json(NODE, &["backend", "ls"])?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .filter(|row| row["service"] == service)
        .map(|row| {
            let called = row["names"][0]
                .as_str()
                .map_or_else(|| word(row, "task"), str::to_owned);
            (called, word(row, "state"))
        })
        .collect())
}

/// Waits until a container of a service is known by a name.
pub fn wait_named(cluster: &Cluster, service: &str, name: &str) {
    let ask = || -> anyhow::Result<_> {
        let rows = cluster.portico_json(NODE, &["backend", "ls", service])?;
        let names = rows.as_array().into_iter().flatten().map(|row| &row["names"]);
        let found = names
            .filter_map(Value::as_array)
            .flatten()
            .any(|known| known == name);
        anyhow::ensure!(found, "there are only {rows}");
        Ok(Some(()))
    };
    wait::until_some(&format!("{service} has a container {name}"), PATIENCE, ask).unwrap();
}

/// Waits until a service has so many tasks, and all of them take new connections.
pub fn wait_served(cluster: &Cluster, service: &str, tasks: usize) {
    wait_states(cluster, service, |states| {
        states.len() == tasks && states.values().all(|state| state == "active")
    });
    cluster.wait_hooked().unwrap();
}

/// Waits until the tasks of a service are as wanted, and gives how long it took.
pub fn wait_states(
    cluster: &Cluster,
    service: &str,
    wanted: impl Fn(&BTreeMap<String, String>) -> bool,
) -> Duration {
    let what = format!("the tasks of {service} are as wanted");
    let ask = || -> anyhow::Result<_> {
        let states = states(cluster, service)?;
        anyhow::ensure!(wanted(&states), "they are {states:?}");
        let status = cluster.portico_json(NODE, &["status"])?;
        for plane in status["planes"].as_array().into_iter().flatten() {
            let applied = plane["report"]["generation"].as_u64();
            anyhow::ensure!(applied >= status["generation"].as_u64(), "{plane} lags behind");
        }
        Ok(Some(()))
    };
    wait::until_some(&what, PATIENCE, ask).unwrap().1
}

/// Asks the client's question until whoever answers new connections is as wanted.
pub fn wait_answers(cluster: &Cluster, target: SocketAddr, wanted: impl Fn(&BTreeSet<String>) -> bool) {
    let client = cluster.client();
    let ask = || -> anyhow::Result<_> {
        let mut all = BTreeSet::new();
        for _ in 0..30 {
            all.insert(http::ask(&client, target)?.task);
        }
        anyhow::ensure!(wanted(&all), "{all:?} answer");
        Ok(Some(()))
    };
    wait::until_some("the right tasks answer", PATIENCE, ask).unwrap();
}
