//! `portico service ls` and `service show`.

use serde::{Deserialize, Serialize};

use super::Problem;
use super::backend::{BackendRow, rows};
use super::facts::Facts;
use super::naming::{self, NamingView};
use super::rules::RulesView;
use crate::config::suggest;
use crate::model::{HealthCheck, Naming, Probe, Service, Standing};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    pub name: String,
    /// Published ones, as `*:8080/tcp -> 80`.
    pub ports: Vec<String>,
    #[serde(default)]
    pub naming: NamingView,
    /// Backends that take new connections, of how many.
    pub active: usize,
    pub backends: usize,
    /// Live flows of its tasks on this node; none until they have been counted.
    pub live: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    #[serde(flatten)]
    pub row: ServiceRow,
    pub slots: u32,
    /// `none` or `client-ip`.
    pub affinity: String,
    #[serde(default)]
    pub rules: RulesView,
    /// The health check in words, if there is one.
    pub health: Option<String>,
    pub tasks: Vec<BackendRow>,
    /// What is not as its source wants it.
    #[serde(default)]
    pub problems: Vec<Problem>,
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
        affinity: service.affinity.label().into(),
        rules: RulesView::from(&service.proxy),
        health: service.health.as_ref().map(health),
        tasks: rows(facts, service),
        problems: kept_shape(service)
            .into_iter()
            .chain(naming::without_vip(service))
            .chain(facts.notes(&service.name).map(|note| note.problem.clone()))
            .collect(),
    })
}

/// A change that would move every live connection, and therefore waits.
pub fn kept_shape(service: &Service) -> Option<Problem> {
    let wanted = service.wanted?;
    let slots = (wanted.slots != service.slots)
        .then(|| format!("slots: {} wanted, {} in use", wanted.slots, service.slots));
    let (before, after) = (service.affinity.label(), wanted.affinity.label());
    let affinity = (before != after).then(|| format!("affinity: {after} wanted, {before} in use"));
    let differences: Vec<String> = slots.into_iter().chain(affinity).collect();
    Some(
        Problem::new(format!(
            "service {}: {} since it was first seen",
            service.name,
            differences.join("; ")
        ))
        .because("it takes effect when the service is removed and added again")
        .traffic("served as before; a change now would look for every live connection at another task")
        .fix("put the old value back; or remove the service on all nodes and add it again, which ends its connections"),
    )
}

/// The service of this name, or what to type instead.
pub fn find<'f>(facts: &'f Facts, name: &str) -> Result<&'f Service, Problem> {
    let services = &facts.snapshot.services;
    if let Some(service) = services.get(name) {
        return Ok(service);
    }
    // An alias alone may be that of several stacks' services, one with its stack is not.
    let mut called = services.values().filter(|service| is_called(service, name));
    match (called.next(), called.next()) {
        (Some(service), None) => return Ok(service),
        (Some(first), Some(second)) => {
            return Err(Problem::new(format!("{name:?} means several services"))
                .because(format!(
                    "{} and {} are called so, and {} more",
                    first.name,
                    second.name,
                    called.count()
                ))
                .fix(format!("say which, as {}", first.name)));
        }
        (None, _) => {}
    }
    // It may be there, and of no use.
    if let Some(note) = facts.notes(name).next() {
        return Err(note.problem.clone());
    }
    Err({
        let problem = Problem::new(format!("there is no service {name:?}"));
        match suggest::nearest(name, services.keys().map(|known| &**known)) {
            Some(meant) => problem.fix(format!("did you mean {meant:?}? all of them: portico service ls")),
            None => problem.fix("see which there are: portico service ls"),
        }
    })
}

/// By an alias, `web`, or by name or alias with the stack behind it, `web.shop`.
fn is_called(service: &Service, name: &str) -> bool {
    let Naming { stack, aliases, .. } = &service.naming;
    let is = |called: &str| {
        let rest = name.strip_prefix(called);
        rest == Some("")
            || rest
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| Some(rest) == stack.as_deref())
    };
    is(&service.name) || aliases.iter().any(|alias| is(alias))
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
        ports: naming::published(service)
            .map(|front| format!("{front} -> {}", front.target_port))
            .collect(),
        naming: naming::naming(service),
        active: active.count(),
        backends: service.backends.len(),
        live: facts.flows.generation.map(|_| here.sum()),
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
    use crate::model::{Affinity, Shape};

    #[test]
    fn a_service_is_listed_with_its_ports_and_active_backends() {
        let rows = services(&sample::facts());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ports, ["*:8080/tcp -> 80"]);
        assert_eq!((rows[0].active, rows[0].backends), (3, 3));
        assert_eq!(rows[0].live, Some(14));

        let mut facts = sample::facts();
        facts.flows.generation = None;
        assert_eq!(services(&facts)[0].live, None);
    }

    #[test]
    fn a_shape_that_waits_is_a_problem_of_the_service() {
        let mut facts = sample::facts();
        assert_eq!(service(&facts, "web").unwrap().problems, []);
        sample::change(&mut facts, |snapshot| {
            let web = std::sync::Arc::make_mut(snapshot.services.get_mut("web").unwrap());
            web.wanted = Some(Shape {
                slots: 8192,
                affinity: Affinity::ClientIp,
            });
        });
        let problems = service(&facts, "web").unwrap().problems;
        assert_eq!(
            problems[0].what,
            "service web: slots: 8192 wanted, 4096 in use; affinity: client-ip wanted, none in use since it was first seen"
        );
    }

    #[test]
    fn a_service_is_found_by_an_alias_that_is_its_alone_and_by_one_with_its_stack() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            let web = Service::clone(&snapshot.services["web"]);
            for stack in ["shop", "blog"] {
                let mut twin = web.clone();
                twin.name = format!("{stack}_db").into();
                twin.naming.stack = Some(stack.into());
                twin.naming.aliases = vec!["db".into(), format!("{stack}-only").into()];
                snapshot
                    .services
                    .insert(std::sync::Arc::clone(&twin.name), std::sync::Arc::new(twin));
            }
        });
        for (name, found) in [
            ("web", "web"),
            ("shop-only", "shop_db"),
            ("db.blog", "blog_db"),
            ("shop_db.shop", "shop_db"),
        ] {
            assert_eq!(&*find(&facts, name).unwrap().name, found);
        }
        let several = find(&facts, "db").unwrap_err();
        assert_eq!(several.what, "\"db\" means several services");
        assert_eq!(several.fix.as_deref(), Some("say which, as blog_db"));
        assert!(find(&facts, "db.other").is_err());
    }

    #[test]
    fn what_a_source_could_not_take_is_a_problem_of_the_service_even_where_it_is_left_out() {
        let mut facts = sample::facts();
        let note = |service: &str| crate::api::facts::Note {
            service: Some(service.into()),
            problem: Problem::new(format!("{service}: label portico.slots=1000")),
        };
        facts.sources[0].notes = vec![note("web"), note("gone")];
        assert_eq!(
            service(&facts, "web").unwrap().problems[0].what,
            "web: label portico.slots=1000"
        );
        assert_eq!(
            find(&facts, "gone").unwrap_err().what,
            "gone: label portico.slots=1000"
        );
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
