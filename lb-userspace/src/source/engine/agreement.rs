//! Whether what an engine lists of a container is what is known of it.

use bollard::models::ContainerSummaryStateEnum as State;

use super::local::{Health, Run};

pub fn same_run(state: Option<State>, run: Run) -> bool {
    match state {
        Some(State::RUNNING | State::STOPPING) => run == Run::Running,
        Some(State::PAUSED) => run == Run::Paused,
        Some(State::RESTARTING) => run == Run::Restarting,
        Some(State::CREATED) => run == Run::Created,
        Some(State::EXITED | State::REMOVING | State::DEAD) => run == Run::Ended,
        Some(State::EMPTY) | None => true,
    }
}

/// Engines write health into the words for people: `Up 3 seconds (health: starting)`.
pub fn same_health(status: &str, health: Option<&Health>) -> bool {
    if status.ends_with("(healthy)") {
        health == Some(&Health::Healthy)
    } else if status.ends_with("(unhealthy)") {
        matches!(health, Some(Health::Unhealthy(_)))
    } else if status.ends_with("(health: starting)") {
        health == Some(&Health::Starting)
    } else {
        true
    }
}
