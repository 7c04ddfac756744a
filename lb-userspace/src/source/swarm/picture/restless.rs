//! Whether something is under way. No event tells when a task of another node changes: it must be looked for.

use std::collections::{HashMap, HashSet};

use super::super::lists::{Lists, Port, Service, State, Task};

/// Whether the lists will be different soon.
pub fn is_restless(lists: &Lists) -> bool {
    let nodes = lists.nodes.iter();
    let up: HashSet<&str> = nodes
        .filter(|node| node.status.state != "down")
        .map(|node| &*node.id)
        .collect();
    let mut there: HashMap<&str, u64> = HashMap::new();
    for task in lists
        .tasks
        .iter()
        .filter(|task| task.desired_state == State::Running)
    {
        *there.entry(&task.service).or_default() += 1;
    }
    lists.nodes.iter().any(|node| node.status.state == "unknown")
        || lists
            .tasks
            .iter()
            .any(|task| is_moving(task, up.contains(&*task.node)))
        || lists.services.iter().any(|service| {
            is_updating(service)
                || awaits_port(service)
                || lacks_tasks(service, there.get(&*service.id).copied().unwrap_or(0))
        })
}

/// A task of a node that is down keeps its last word for ever.
fn is_moving(task: &Task, up: bool) -> bool {
    let state = task.status.state;
    match task.desired_state {
        State::Remove | State::Shutdown => state <= State::Running && up,
        // Also what waits for its predecessor to end.
        State::Running | State::Ready => state < State::Running,
        _ => false,
    }
}

fn is_updating(service: &Service) -> bool {
    let state = service.update_status.as_ref().map(|status| &*status.state);
    matches!(state, Some("updating" | "rollback_started"))
}

fn awaits_port(service: &Service) -> bool {
    let chosen = |asked: &Port| {
        let mut ports = service.endpoint.ports.iter();
        ports.any(|port| port.is_for(asked) && port.published_port != 0)
    };
    let mut asked = service.spec.endpoint_spec.ports.iter();
    asked.any(|port| port.is_ingress() && port.published_port == 0 && !chosen(port))
}

fn lacks_tasks(service: &Service, there: u64) -> bool {
    let wanted = service.spec.mode.replicated.and_then(|mode| mode.replicas);
    wanted.is_some_and(|wanted| wanted != there)
}
