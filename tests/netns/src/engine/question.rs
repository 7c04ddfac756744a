//! Asking a node's engine, by the clients that people use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::{engine, tool, wait};

const PATIENCE: Duration = Duration::from_secs(30);

impl Cluster {
    /// `docker` at a node's engine.
    pub fn docker_command(&self, node: &str) -> Command {
        self.towards(node, "docker")
    }

    /// `docker ARGUMENTS` at a node's engine; gives what it prints.
    pub fn docker(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let said = tool::run(self.docker_command(node).args(arguments))?;
        Ok(said.trim_end().to_owned())
    }

    /// `docker-compose ARGUMENTS` at a node's engine, for the project of a Compose file.
    pub fn compose(&self, node: &str, project: &str, file: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = self.towards(node, "docker-compose");
        command
            .args(["--no-ansi", "--project-name", project, "--file"])
            .arg(file)
            .args(arguments);
        tool::run(&mut command)
    }

    /// Puts a Compose or stack file where the cluster's files are.
    pub fn write_file(&self, name: &str, text: &str) -> Result<std::path::PathBuf> {
        let path = self.state.directory().join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// What the engine knows of a container.
    pub fn inspect(&self, node: &str, container: &str) -> Result<Value> {
        let said = self.docker(node, &["inspect", "--type", "container", container])?;
        let mut list: Vec<Value> = serde_json::from_str(&said)?;
        list.pop().with_context(|| format!("{node} has no {container}"))
    }

    /// What the program of a container calls itself: its host name, which Docker makes of the first twelve digits of its
    /// number.
    pub fn hostname(&self, node: &str, container: &str) -> Result<String> {
        let said = self.docker(
            node,
            &[
                "inspect",
                "--type",
                "container",
                "-f",
                "{{.Config.Hostname}}",
                container,
            ],
        )?;
        Ok(said)
    }

    /// Waits until the engine calls a container `healthy`, say.
    pub fn wait_health(&self, node: &str, container: &str, wanted: &str) -> Result<()> {
        wait::until_some(&format!("{container} is {wanted}"), PATIENCE, || {
            let said = self.docker(node, &["inspect", "-f", "{{.State.Health.Status}}", container])?;
            Ok::<_, anyhow::Error>((said == wanted).then_some(()))
        })?;
        Ok(())
    }

    fn towards(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new(engine::program(program));
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.engine_socket(node).display()),
            )
            // Nobody's preferences.
            .env("DOCKER_CONFIG", self.state.directory().join("docker"))
            .env("COMPOSE_PARALLEL_LIMIT", "4");
        command
    }
}
