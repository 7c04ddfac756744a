//! Waiting until every agent has carried out what its services file says, and asking them what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait;

/// A change travels in well under a second; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A task that drains for longer than this without being asked to has an operator's mark (`portico drain`), which
/// outranks the file.
const MARKED: Duration = Duration::from_secs(3);

impl Cluster {
    /// Waits until all live agents serve what was published. Without agents there is nothing to wait for.
    pub fn settle(&self) -> Result<()> {
        self.settle_on(&self.agents())
    }

    /// The same for some nodes.
    pub fn settle_on<N: AsRef<str>>(&self, nodes: &[N]) -> Result<()> {
        if self.state.file.is_some() {
            return Ok(());
        }
        for node in nodes {
            let node = node.as_ref();
            let began = Instant::now();
            wait::until_some(&format!("{node} serves what was published"), PATIENCE, || {
                self.check_settled(node, began.elapsed() > MARKED).map(Some)
            })?;
        }
        Ok(())
    }

    /// Waits until every agent has found all the tasks of its node, which must live. Until then it sends what asks for them
    /// to others.
    pub fn wait_hooked(&self) -> Result<()> {
        for node in self.agents() {
            wait::until_some(&format!("{node} finds its tasks"), PATIENCE, || {
                let status = self.portico_json(&node, &["status"])?;
                for plane in status["planes"].as_array().context("no planes")? {
                    let missing = &plane["report"]["unhooked"];
                    ensure!(
                        missing.as_array().is_none_or(Vec::is_empty),
                        "{missing} are missing"
                    );
                }
                Ok::<_, anyhow::Error>(Some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until the planes of every agent have carried out all that the agent knows by then.
    pub fn wait_applied(&self) -> Result<()> {
        for node in self.agents() {
            wait::until_some(&format!("{node} has carried out what it knows"), PATIENCE, || {
                check_applied(&self.portico_json(&node, &["status"])?).map(Some)
            })?;
        }
        Ok(())
    }

    /// Waits until every agent knows the tasks that its own services file names, however old that is: then views lag
    /// behind as far as the files do, and no further.
    pub fn keep_up(&self) -> Result<()> {
        for node in self.agents() {
            wait::until_some(
                &format!("{node} has taken in its services file"),
                PATIENCE,
                || {
                    let text = fs::read_to_string(self.services_file(&node))?;
                    let named: BTreeSet<&str> = text
                        .split("task: \"")
                        .skip(1)
                        .filter_map(|rest| rest.split('"').next())
                        .collect();
                    let there = self.backend_states(&node)?;
                    let known = there.keys().map(String::as_str).eq(named);
                    Ok::<_, anyhow::Error>(known.then_some(()))
                },
            )?;
        }
        Ok(())
    }

    /// Nodes whose agent runs.
    pub fn agents(&self) -> Vec<String> {
        let runs = |node: &crate::state::Node| node.agent.is_some_and(|agent| agent.is_alive());
        self.state
            .nodes
            .iter()
            .filter(|(_, node)| runs(node))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn check_settled(&self, node: &str, marked: bool) -> Result<()> {
        let wanted: BTreeMap<String, bool> = self
            .state
            .tasks
            .values()
            .map(|task| {
                (
                    task.identity.clone(),
                    task.draining || self.state.nodes[&task.node].draining,
                )
            })
            .collect();
        // What engines run, only they know.
        let there = if self.state.engines {
            BTreeMap::new()
        } else {
            self.backend_states(node)?
        };
        ensure!(
            there.keys().eq(wanted.keys()),
            "it knows {:?} instead of {:?}",
            there.keys(),
            wanted.keys()
        );
        for (task, draining) in wanted {
            let state = &there[&task];
            let fits = match state.as_str() {
                "warming" => false,
                "draining" => draining || marked,
                _ => !draining,
            };
            ensure!(fits, "{task} is {state}");
        }
        let status = self.portico_json(node, &["status"])?;
        let agents = self.agents();
        for peer in status["peers"].as_array().context("no peers")? {
            let name = peer["node"].as_str().unwrap_or_default();
            let heard = peer["suspected"] == false && peer["away"] == false && !peer["heard_ms"].is_null();
            ensure!(
                heard || !agents.iter().any(|agent| agent == name),
                "it does not hear {name}"
            );
        }
        check_applied(&status)
    }

    /// What a node says of each task: `active`, `warming`, `draining`, `unhealthy`.
    pub fn backend_states(&self, node: &str) -> Result<BTreeMap<String, String>> {
        self.states(node, "backend", "task")
    }

    /// What a node says of each node: `ready`, `draining`, `away`, `silent`.
    pub fn node_states(&self, node: &str) -> Result<BTreeMap<String, String>> {
        self.states(node, "node", "name")
    }

    fn states(&self, node: &str, what: &str, name: &str) -> Result<BTreeMap<String, String>> {
        let rows = self.portico_json(node, &[what, "ls"])?;
        let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = rows
            .as_array()
            .with_context(|| format!("{what} ls gave no list"))?;
        Ok(rows
            .iter()
            .map(|row| (word(row, name), word(row, "state")))
            .collect())
    }

    /// Packets that met each verdict on a node.
    pub fn verdicts(&self, node: &str) -> Result<BTreeMap<String, u64>> {
        let status = self.portico_json(node, &["status"])?;
        let planes = status["planes"].as_array().context("no planes")?;
        Ok(planes
            .iter()
            .filter_map(|plane| plane["report"]["counters"].as_array())
            .flatten()
            .map(|row| {
                (
                    row["verdict"].as_str().unwrap_or_default().to_owned(),
                    row["packets"].as_u64().unwrap_or(0),
                )
            })
            .collect())
    }

    /// Packets that met one verdict on any node whose agent runs.
    pub fn counted(&self, verdict: &str) -> Result<u64> {
        let mut sum = 0;
        for node in self.agents() {
            sum += self.verdicts(&node)?.get(verdict).copied().unwrap_or(0);
        }
        Ok(sum)
    }
}

fn check_applied(status: &Value) -> Result<()> {
    for plane in status["planes"].as_array().context("no planes")? {
        let applied = &plane["report"]["generation"];
        ensure!(
            applied.as_u64() >= status["generation"].as_u64(),
            "plane {} has applied {applied} of {}",
            plane["name"],
            status["generation"]
        );
    }
    Ok(())
}
