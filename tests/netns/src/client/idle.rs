//! Connections that say nothing for a while and then prove that they are alive.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::http::{Answer, Connection};
use crate::namespace::Namespace;

/// Connections that each have asked once and know their task.
#[derive(Debug)]
pub struct Idle {
    connections: Vec<(Connection, Answer)>,
}

impl Idle {
    /// Opens `count` connections from a namespace, to the targets in turn.
    pub fn open(from: &Namespace, targets: &[SocketAddr], count: usize) -> Result<Self> {
        let connections = from.run(|| {
            (0..count)
                .map(|number| {
                    let target = targets[number % targets.len()];
                    let mut connection =
                        Connection::open(target, None).with_context(|| target.to_string())?;
                    let answer = connection.ask().with_context(|| target.to_string())?;
                    Ok((connection, answer))
                })
                .collect::<Result<Vec<_>>>()
        })??;
        Ok(Self { connections })
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How many each task has.
    pub fn by_task(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for (_, answer) in &self.connections {
            *count.entry(answer.task.as_str()).or_default() += 1;
        }
        count
    }

    /// Forgets the connections of tasks that shall go.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.connections.retain(|(_, answer)| stays(&answer.task));
    }

    /// Asks on every connection; the words say which are dead and how.
    pub fn prove(&mut self) -> Result<(), Vec<String>> {
        let dead: Vec<String> = self
            .connections
            .iter_mut()
            .filter_map(|(connection, before)| {
                let local = connection.local();
                match connection.ask() {
                    Ok(now) if now.task == before.task && now.port == before.port => None,
                    Ok(now) => Some(format!("{local:?}: {} became {}", before.task, now.task)),
                    Err(error) => Some(format!("{local:?} of {}: {error}", before.task)),
                }
            })
            .collect();
        if dead.is_empty() { Ok(()) } else { Err(dead) }
    }
}
