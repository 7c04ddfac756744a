//! The configuration and the services file.

use std::path::Path;

use super::finding::Finding;
use crate::api::Problem;
use crate::config::Config;
use crate::model::Desired;
use crate::source::file;

/// The configuration, or the default one where it is not fit.
pub fn config(path: Option<&Path>) -> (Config, Vec<Finding>) {
    match Config::load(path) {
        Ok(config) => {
            let words = format!("node {}, cluster secret {}", config.node, secret(&config));
            let mut findings = vec![Finding::ok("configuration", words)];
            if config.cluster.secret.is_empty() {
                findings.push(Finding::warning(
                    "secret",
                    "the cluster has none: whoever reaches udp/6081 can send packets to tasks",
                    "set [cluster] secret in portico.toml, the same on every node",
                ));
            }
            (config, findings)
        }
        Err(error) => {
            let problem = Problem::of(&error);
            let fix = problem.fix.unwrap_or_else(|| "correct it".into());
            (
                Config::default(),
                vec![Finding::failure("configuration", problem.what, fix)],
            )
        }
    }
}

/// What the services file wants, if it is used and can be read.
pub fn services(config: &Config) -> (Option<Desired>, Vec<Finding>) {
    let Some(path) = &config.sources.file() else {
        let words =
            "no services file; containers are served as their engine has them, which the running agent knows";
        return (None, vec![Finding::ok("services", words)]);
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let words = format!("{}: {error}", path.display());
            return (
                None,
                vec![Finding::failure(
                    "services",
                    words,
                    "create it, or set sources.file.path",
                )],
            );
        }
    };
    match file::parse(path, &text) {
        Ok(desired) => {
            let backends: usize = desired
                .services
                .values()
                .map(|service| service.backends.len())
                .sum();
            let words = format!(
                "{}: {} services, {backends} backends, {} nodes",
                path.display(),
                desired.services.len(),
                desired.nodes.len()
            );
            let mut findings = vec![Finding::ok("services", words)];
            if !desired.nodes.contains_key(config.node.as_str()) {
                findings.push(Finding::warning(
                    "node",
                    format!("{} is not among the nodes of {}", config.node, path.display()),
                    "add it under nodes:, or set node = \"NAME\" in portico.toml",
                ));
            }
            (Some(desired), findings)
        }
        Err(refused) => {
            let problem = Problem::of(&refused);
            let fix = problem.fix.unwrap_or_else(|| "correct it".into());
            (None, vec![Finding::failure("services", problem.what, fix)])
        }
    }
}

fn secret(config: &Config) -> &'static str {
    if config.cluster.secret.is_empty() {
        "not set"
    } else {
        "set"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    fn written(text: &str) -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.yaml");
        std::fs::write(&path, text).unwrap();
        let mut config = Config {
            node: "node1".into(),
            ..Config::default()
        };
        config.sources.file.path = Some(path);
        (directory, config)
    }

    #[test]
    fn a_node_that_the_services_file_does_not_know_is_warned_of() {
        let (_directory, config) = written("nodes:\n  node2: 192.0.2.12\nservices: {}\n");
        let (_, findings) = services(&config);
        assert_eq!(findings[1].state, State::Warning);
        assert!(findings[1].words.starts_with("node1 is not among the nodes"));
    }

    #[test]
    fn a_mistake_in_the_services_file_is_a_failure_with_its_line() {
        let (_directory, config) = written("nodes:\n  node1: 192.0.2.11\nservces: {}\n");
        let (desired, findings) = services(&config);
        assert!(desired.is_none());
        assert_eq!(findings[0].state, State::Failure);
        assert!(findings[0].words.contains("services.yaml:3:"), "{findings:?}");
    }
}
