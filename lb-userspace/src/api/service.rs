//! `portico service ls` and `service show`.

use serde::{Deserialize, Serialize};

use super::Problem;
use super::backend::{BackendRow, rows};
use super::facts::Facts;
use crate::config::suggest;
use crate::model::{Affinity, HealthCheck, Probe, Service, Standing};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    pub name: String,
    /// As `*:8080/tcp -> 80`.
    pub ports: Vec<String>,
    /// Backends that take new connections, of how many.
    pub active: usize,
    pub backends: usize,
    /// Live flows of its tasks on this node.
    pub live: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    #[serde(flatten)]
    pub row: ServiceRow,
    pub slots: u32,
    /// `none` or `client-ip`.
    pub affinity: String,
    /// The health check in words, if there is one.
    pub health: Option<String>,
    pub tasks: Vec<BackendRow>,
}

/// All services, by name.
pub fn services(facts: &Facts) -> Vec<ServiceRow> {
    facts
        .snapshot
        .services
        .values()
        .map(|service| row(facts, service))
        .collect()
}

/// One service with its backends.
pub fn service(facts: &Facts, name: &str) -> Result<ServiceView, Problem> {
    let service = find(facts, name)?;
    Ok(ServiceView {
        row: row(facts, service),
        slots: service.slots,
        affinity: match service.affinity {
            Affinity::None => "none",
            Affinity::ClientIp => "client-ip",
        }
        .into(),
        health: service.health.as_ref().map(health),
        tasks: rows(facts, service),
    })
}

/// The service of this name, or what to type instead.
pub fn find<'f>(facts: &'f Facts, name: &str) -> Result<&'f Service, Problem> {
    let services = &facts.snapshot.services;
    services.get(name).map(|service| &**service).ok_or_else(|| {
        let problem = Problem::new(format!("there is no service {name:?}"));
        match suggest::nearest(name, services.keys().map(|known| &**known)) {
            Some(meant) => problem.fix(format!("did you mean {meant:?}? all of them: portico service ls")),
            None => problem.fix("see which there are: portico service ls"),
        }
    })
}

fn row(facts: &Facts, service: &Service) -> ServiceRow {
    let active = service
        .backends
        .iter()
        .filter(|backend| backend.standing == Standing::Active);
    let here = service
        .backends
        .iter()
        .filter_map(|backend| facts.live(&service.name, &backend.task, &backend.node));
    ServiceRow {
        name: service.name.to_string(),
        ports: service
            .frontends
            .iter()
            .map(|front| format!("{front} -> {}", front.target_port))
            .collect(),
        active: active.count(),
        backends: service.backends.len(),
        live: here.sum(),
    }
}

fn health(check: &HealthCheck) -> String {
    let probe = match &check.probe {
        Probe::Tcp => format!("a connection to port {}", check.port),
        Probe::Http { path } => format!("GET {path} on port {}", check.port),
    };
    format!(
        "{probe} every {:?}, at most {:?} long; out after {} failures, back after {} successes",
        check.interval, check.timeout, check.failures, check.successes
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn a_service_is_listed_with_its_ports_and_active_backends() {
        let rows = services(&sample::facts());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ports, ["*:8080/tcp -> 80"]);
        assert_eq!((rows[0].active, rows[0].backends), (3, 3));
        assert_eq!(rows[0].live, 14);
    }

    #[test]
    fn a_mistyped_name_gets_a_suggestion() {
        let problem = service(&sample::facts(), "wbe").unwrap_err();
        assert_eq!(
            problem.fix.as_deref(),
            Some("did you mean \"web\"? all of them: portico service ls")
        );
    }
}
