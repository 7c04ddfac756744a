//! `portico drain` and `undrain`: an operator's mark on a node or a task.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::backend::backends;
use super::facts::Facts;
use crate::config::suggest;
use crate::model::{Backend, DrainObject};

/// How far a drain has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `node` or `backend`.
    pub kind: String,
    pub name: String,
    /// Backends meant.
    pub backends: usize,
    /// Those that take no new connections any more.
    pub drained: usize,
    /// Those on this node.
    pub here: usize,
    /// Live flows left on these; none until they have been counted.
    pub left: Option<u64>,
    /// Generation of the snapshot that says the above.
    pub generation: u64,
    /// Generation in force when the flows began to be counted: one that is older may lack a flow made before the drain.
    pub counted: Option<u64>,
    /// Nodes that hold others of them, and count their flows themselves.
    pub elsewhere: Vec<String>,
}

/// What `name` means: a node, else a task or its container, given as `TASK` or `SERVICE/TASK`; or what to type instead.
pub fn resolve(facts: &Facts, name: &str) -> Result<DrainObject, Problem> {
    if let Some((node, _)) = facts.snapshot.nodes.get_key_value(name) {
        return Ok(DrainObject::Node(Arc::clone(node)));
    }
    let services = || facts.snapshot.services.values();
    let backends = || services().flat_map(|service| service.backends.iter().map(move |b| (&service.name, b)));
    let means = |service: &str, task: &str| {
        task == name || name.strip_prefix(service).and_then(|rest| rest.strip_prefix('/')) == Some(task)
    };
    let mut found: Vec<_> = backends()
        .filter(|(service, backend)| means(service, &backend.task))
        .collect();
    if found.is_empty() {
        let called = |service: &str, backend: &Backend| backend.names.iter().any(|own| means(service, own));
        found = backends()
            .filter(|(service, backend)| called(service, backend))
            .collect();
    }
    match found[..] {
        [(service, backend)] => Ok(DrainObject::Backend {
            service: Arc::clone(service),
            task: Arc::clone(&backend.task),
        }),
        [(first, backend), (second, other), ..] => {
            let problem = Problem::new(format!("{name:?} means several backends"));
            let (task, other) = (&backend.task, &other.task);
            Err(match first == second {
                true => problem.because(format!(
                    "tasks {task} and {other} of service {first} are called so"
                )),
                false => problem.because(format!("services {first} and {second} have one of that name")),
            }
            .fix(format!("say which, as {first}/{task}")))
        }
        [] => {
            let nodes = facts.snapshot.nodes.keys().map(|node| &**node);
            let called = backends().flat_map(|(_, backend)| backend.names.iter().chain([&backend.task]));
            let known = nodes.chain(called.map(|name| &**name));
            let problem = Problem::new(format!("there is neither a node nor a backend {name:?}"));
            Err(match suggest::nearest(name, known) {
                Some(meant) => problem.fix(format!("did you mean {meant:?}?")),
                None => problem.fix("see which there are: portico node ls, portico backend ls"),
            })
        }
    }
}

/// How far the drain of `object` has come.
pub fn progress(facts: &Facts, object: &DrainObject) -> Progress {
    let mut rows = backends(facts, None);
    rows.retain(|row| match object {
        DrainObject::Node(node) => *row.node == **node,
        DrainObject::Backend { service, task } => *row.service == **service && *row.task == **task,
    });
    let here: Vec<_> = rows.iter().filter(|row| *row.node == *facts.node).collect();
    let others = rows.iter().filter(|row| *row.node != *facts.node);
    let mut elsewhere: Vec<_> = others.map(|row| row.node.clone()).collect();
    elsewhere.sort();
    elsewhere.dedup();
    Progress {
        kind: match object {
            DrainObject::Node(_) => "node",
            DrainObject::Backend { .. } => "backend",
        }
        .into(),
        name: match object {
            DrainObject::Node(node) => node.to_string(),
            DrainObject::Backend { service, task } => format!("{service}/{task}"),
        },
        backends: rows.len(),
        drained: rows.iter().filter(|row| row.state != "active").count(),
        here: here.len(),
        left: here.iter().map(|row| row.live).sum(),
        generation: facts.snapshot.generation,
        counted: facts.flows.generation,
        elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;
    use crate::model::Standing;
    use crate::plane::FlowReport;

    fn web_1() -> DrainObject {
        DrainObject::Backend {
            service: "web".into(),
            task: "web.1".into(),
        }
    }

    #[test]
    fn a_name_is_a_node_or_a_task() {
        let facts = sample::facts();
        assert_eq!(resolve(&facts, "node2"), Ok(DrainObject::Node("node2".into())));
        assert_eq!(resolve(&facts, "web.1"), Ok(web_1()));
        assert_eq!(resolve(&facts, "web/web.1"), Ok(web_1()));
        assert_eq!(
            resolve(&facts, "nod2").unwrap_err().fix.as_deref(),
            Some("did you mean \"node2\"?")
        );
    }

    #[test]
    fn a_task_is_found_by_what_its_container_is_called() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").names = vec!["shop_web_1".into()];
        });
        assert_eq!(resolve(&facts, "shop_web_1"), Ok(web_1()));
        assert_eq!(resolve(&facts, "web/shop_web_1"), Ok(web_1()));
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.2").names = vec!["shop_web_1".into()];
        });
        let problem = resolve(&facts, "shop_web_1").unwrap_err();
        assert_eq!(problem.fix.as_deref(), Some("say which, as web/web.1"));
        assert_eq!(resolve(&facts, "web.1"), Ok(web_1()));
    }

    #[test]
    fn a_task_name_of_two_services_needs_the_service() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            let mut other = snapshot.services["web"].as_ref().clone();
            other.name = "api".into();
            snapshot.services.insert("api".into(), other.into());
        });
        let problem = resolve(&facts, "web.1").unwrap_err();
        assert_eq!(problem.fix.as_deref(), Some("say which, as api/web.1"));
        assert_eq!(resolve(&facts, "web/web.1"), Ok(web_1()));
    }

    #[test]
    fn progress_counts_what_is_left_here_and_names_the_other_nodes() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
        });
        let here = progress(&facts, &web_1());
        assert_eq!((here.backends, here.drained, here.left), (1, 1, Some(14)));
        assert!(here.elsewhere.is_empty());
        assert_eq!(
            progress(&facts, &DrainObject::Node("node2".into())).elsewhere,
            ["node2"]
        );
        facts.flows = FlowReport::default();
        assert_eq!(progress(&facts, &web_1()).left, None);
    }
}
