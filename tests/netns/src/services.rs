//! The services file, written from the lab's state for each node.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::address;
use crate::state::State;

/// The file's text.
pub fn render(state: &State) -> String {
    if let Some(file) = &state.file {
        return file.clone();
    }
    let mut text = String::from("nodes:\n");
    for (name, node) in &state.nodes {
        let standing = if node.draining { ", state: draining" } else { "" };
        let _ = writeln!(text, "  {name}: {{ address: {}{standing} }}", node.address(0).v4);
    }
    text.push_str(if state.services.is_empty() {
        "services: {}\n"
    } else {
        "services:\n"
    });
    for (name, service) in &state.services {
        let _ = writeln!(text, "  {name}:");
        if !service.ports.is_empty() {
            let _ = writeln!(text, "    ports: {:?}", service.ports);
        }
        if !service.vips.is_empty() {
            let vips: Vec<String> = service
                .vips
                .iter()
                .flat_map(|&number| address::vip(number).both())
                .map(|address| address.to_string())
                .collect();
            let _ = writeln!(text, "    vips: {vips:?}");
        }
        for line in &service.more {
            let _ = writeln!(text, "    {line}");
        }
        let tasks = state.tasks_of(name);
        text.push_str(if tasks.is_empty() {
            "    backends: []\n"
        } else {
            "    backends:\n"
        });
        for (_, task) in tasks {
            let _ = write!(
                text,
                "      - {{ task: \"{}\", node: {}, address: [\"{}\", \"{}\"]",
                task.identity, task.node, task.address.v4, task.address.v6
            );
            if let Some(weight) = task.weight {
                let _ = write!(text, ", weight: {weight}");
            }
            if task.draining {
                text.push_str(", state: draining");
            }
            text.push_str(" }\n");
        }
    }
    text
}

/// Puts a text in a file's place at once: a reader sees the old one or the new one.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, text).with_context(|| format!("cannot write {}", next.display()))?;
    std::fs::rename(&next, path).with_context(|| format!("cannot put {} in place", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Node, Service, Task};

    #[test]
    fn the_file_reads_as_a_person_would_write_it() {
        let mut state = State::default();
        state.nodes.insert(
            "node1".into(),
            Node {
                index: 1,
                draining: true,
                dead: false,
                agent: None,
                engine: None,
            },
        );
        state
            .services
            .insert("web".into(), Service::new(&["8080:80"]).vip(1).with("slots: 64"));
        let task = Task {
            service: "web".into(),
            number: 1,
            identity: "web.1".into(),
            node: "node1".into(),
            address: address::task(2),
            draining: true,
            weight: Some(2),
            process: None,
        };
        state.tasks.insert("web.1".into(), task);
        let expected = r#"nodes:
  node1: { address: 192.0.2.11, state: draining }
services:
  web:
    ports: ["8080:80"]
    vips: ["203.0.113.1", "2001:db8:113::1"]
    slots: 64
    backends:
      - { task: "web.1", node: node1, address: ["172.18.0.2", "2001:db8:18::2"], weight: 2, state: draining }
"#;
        assert_eq!(render(&state), expected);
    }
}
