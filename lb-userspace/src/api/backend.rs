//! `portico backend ls`: the tasks, what is wanted of them and how they are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::model::{Backend, Service, Standing};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendRow {
    pub service: String,
    pub task: String,
    /// What its container is called.
    #[serde(default)]
    pub names: Vec<String>,
    pub node: String,
    pub addresses: Vec<IpAddr>,
    pub weight: u16,
    /// `active`, `warming`, `draining`, `unhealthy`.
    pub state: String,
    /// Why it gets no new connections, where it gets none.
    pub reason: Option<String>,
    /// Its live flows; none for a task on another node, whose agent counts them, and until they have been counted.
    pub live: Option<u64>,
}

/// The backends of one service, or of all; in the order of their names, numbers by value.
pub fn backends(facts: &Facts, service: Option<&str>) -> Vec<BackendRow> {
    let services = facts.snapshot.services.values();
    let wanted = services.filter(|candidate| service.is_none_or(|name| name == &*candidate.name));
    wanted.flat_map(|service| rows(facts, service)).collect()
}

/// The backends of one service.
pub fn rows(facts: &Facts, service: &Service) -> Vec<BackendRow> {
    let mut rows: Vec<_> = service
        .backends
        .iter()
        .map(|backend| row(facts, service, backend))
        .collect();
    rows.sort_by_cached_key(|row| number(&row.task));
    rows
}

fn row(facts: &Facts, service: &Service, backend: &Backend) -> BackendRow {
    BackendRow {
        service: service.name.to_string(),
        task: backend.task.to_string(),
        names: backend.names.iter().map(ToString::to_string).collect(),
        node: backend.node.to_string(),
        addresses: backend.addresses.clone(),
        weight: backend.weight,
        state: state(backend.standing).into(),
        reason: reason(facts, backend),
        live: facts.live(&service.name, &backend.task, &backend.node),
    }
}

/// Name of a standing in listings.
pub fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Warming => "warming",
        Standing::Active => "active",
        Standing::Draining => "draining",
        Standing::Unhealthy => "unhealthy",
    }
}

fn reason(facts: &Facts, backend: &Backend) -> Option<String> {
    let node = facts.snapshot.nodes.get(&backend.node);
    match backend.standing {
        Standing::Active if node.is_some_and(|node| node.suspected) => Some(format!(
            "{} is silent: new connections go elsewhere",
            backend.node
        )),
        Standing::Active => None,
        Standing::Warming => Some("new: every node shall know it before it gets a share".into()),
        Standing::Draining if node.is_some_and(|node| node.draining) => {
            Some(format!("{} is draining", backend.node))
        }
        Standing::Draining => Some("taken out by the source or an operator".into()),
        Standing::Unhealthy if backend.unready.is_some() => backend.unready.as_deref().map(str::to_owned),
        Standing::Unhealthy => Some(
            facts
                .health
                .get(&backend.tag)
                .cloned()
                .unwrap_or_else(|| format!("its health check on {} fails", backend.node)),
        ),
    }
}

/// Sorts `web.10` after `web.9`.
pub fn number(task: &str) -> (String, u64, String) {
    let (stem, digits) = match task.rsplit_once('.') {
        Some((stem, digits)) => (stem, digits.parse().ok()),
        None => (task, None),
    };
    match digits {
        Some(number) => (stem.into(), number, String::new()),
        None => (task.into(), 0, task.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn tasks_are_listed_by_number() {
        let mut names = ["web.10", "web.9", "node1/172.18.0.2", "web.1"];
        names.sort_by_key(|name| number(name));
        assert_eq!(names, ["node1/172.18.0.2", "web.1", "web.9", "web.10"]);
    }

    #[test]
    fn only_the_own_nodes_flows_are_known() {
        let facts = sample::facts();
        let rows = backends(&facts, Some("web"));
        assert_eq!(rows[0].live, Some(14));
        assert_eq!(rows[1].live, None);
    }

    #[test]
    fn a_backend_without_new_connections_says_why() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.3").standing = Standing::Unhealthy;
            sample::node(snapshot, "node2").suspected = true;
        });
        let reasons: Vec<_> = backends(&facts, None).into_iter().map(|row| row.reason).collect();
        assert_eq!(
            reasons,
            [
                None,
                Some("node2 is silent: new connections go elsewhere".into()),
                Some("its health check on node3 fails".into())
            ]
        );
    }
}
