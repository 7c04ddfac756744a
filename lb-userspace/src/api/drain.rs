//! `portico drain` and `undrain`: an operator's mark on a node or a task.

use serde::{Deserialize, Serialize};

use super::Problem;
use super::backend::backends;
use super::facts::Facts;
use crate::config::suggest;

/// What is marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Node(String),
    Backend { service: String, task: String },
}

/// How far a drain has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub target: Target,
    /// Backends meant.
    pub backends: usize,
    /// Those that take no new connections any more.
    pub drained: usize,
    /// Live flows left on those that are on this node.
    pub left: u64,
    /// Nodes that hold others of them, and count their flows themselves.
    pub elsewhere: Vec<String>,
}

/// What `name` means: a node, else a task, given as `TASK` or `SERVICE/TASK`.
pub fn resolve(facts: &Facts, name: &str) -> Result<Target, Problem> {
    if facts.snapshot.nodes.contains_key(name) {
        return Ok(Target::Node(name.into()));
    }
    let rows = backends(facts, None);
    let mut found = rows
        .iter()
        .filter(|row| row.task == name || name.strip_prefix(&row.service) == Some(&format!("/{}", row.task)));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(Target::Backend {
            service: row.service.clone(),
            task: row.task.clone(),
        }),
        (Some(first), Some(second)) => Err(Problem::new(format!("{name:?} means several backends"))
            .because(format!(
                "services {} and {} have one of that name",
                first.service, second.service
            ))
            .fix(format!("say which: portico drain {}/{name}", first.service))),
        (None, _) => {
            let nodes = facts.snapshot.nodes.keys().map(|node| &**node);
            let known = nodes.chain(rows.iter().map(|row| row.task.as_str()));
            let problem = Problem::new(format!("there is neither a node nor a backend {name:?}"));
            Err(match suggest::nearest(name, known) {
                Some(meant) => problem.fix(format!("did you mean {meant:?}?")),
                None => problem.fix("see which there are: portico node ls, portico backend ls"),
            })
        }
    }
}

/// How far the drain of `target` has come.
pub fn progress(facts: &Facts, target: &Target) -> Progress {
    let mut rows = backends(facts, None);
    rows.retain(|row| match target {
        Target::Node(node) => row.node == *node,
        Target::Backend { service, task } => row.service == *service && row.task == *task,
    });
    let mut elsewhere: Vec<_> = rows
        .iter()
        .filter(|row| *row.node != *facts.node)
        .map(|row| row.node.clone())
        .collect();
    elsewhere.sort();
    elsewhere.dedup();
    Progress {
        target: target.clone(),
        backends: rows.len(),
        drained: rows.iter().filter(|row| row.state != "active").count(),
        left: rows.iter().filter_map(|row| row.live).sum(),
        elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;
    use crate::model::Standing;

    fn web_1() -> Target {
        Target::Backend {
            service: "web".into(),
            task: "web.1".into(),
        }
    }

    #[test]
    fn a_name_is_a_node_or_a_task() {
        let facts = sample::facts();
        assert_eq!(resolve(&facts, "node2"), Ok(Target::Node("node2".into())));
        assert_eq!(resolve(&facts, "web.1"), Ok(web_1()));
        assert_eq!(resolve(&facts, "web/web.1"), Ok(web_1()));
        assert_eq!(
            resolve(&facts, "nod2").unwrap_err().fix.as_deref(),
            Some("did you mean \"node2\"?")
        );
    }

    #[test]
    fn progress_counts_what_is_left_here_and_names_the_other_nodes() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
        });
        let here = progress(&facts, &web_1());
        assert_eq!((here.backends, here.drained, here.left), (1, 1, 14));
        assert!(here.elsewhere.is_empty());
        assert_eq!(
            progress(&facts, &Target::Node("node2".into())).elsewhere,
            ["node2"]
        );
    }
}
