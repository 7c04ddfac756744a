//! What of a list of tasks can be different from the one before. A manager keeps tasks that ended, five for each slot unless
//! it is told otherwise: in a swarm that lives, most of its list is the past.
//!
//! A task that nobody has seen yet, that runs and shall end already, is one that a service's or a node's change, or the end of
//! another task, has brought: where services, nodes and the tasks that shall not end are the same, there is none.

use std::collections::HashMap;

use super::lists::{State, Task};

/// What swarms want of tasks that are not told to end; in the words of the API.
pub const WANTED: [&str; 13] = [
    "new",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "failed",
    "rejected",
    "remove",
    "orphaned",
];

/// Those that shall end and had not when they were seen last: no list of what is [`WANTED`] has them.
pub fn ending(before: &[Task]) -> Vec<&str> {
    let ending = before.iter().filter(|task| is_to_end(task) && !has_ended(task));
    ending.map(|task| &*task.id).collect()
}

/// The list as it is now, from the one before, what is [`WANTED`] now, and what is there of those that were [`ending`]. `None`:
/// something has begun, or was told to end, and what else goes with it only the whole list says.
pub fn renewed(before: &[Task], wanted: Vec<Task>, ending: Vec<Task>) -> Option<Vec<Task>> {
    let by_id = |tasks: Vec<Task>| {
        let tasks = tasks.into_iter().map(|task| (task.id.clone(), task));
        tasks.collect::<HashMap<String, Task>>()
    };
    let (mut wanted, mut ending) = (by_id(wanted), by_id(ending));
    let mut now = Vec::with_capacity(before.len());
    for task in before {
        if !is_to_end(task) {
            let task = wanted
                .remove(&task.id)
                .filter(|now| now.desired_state == task.desired_state)?;
            now.push(task);
        } else if has_ended(task) {
            now.push(task.clone());
        } else {
            now.extend(ending.remove(&task.id));
        }
    }
    wanted.is_empty().then_some(now)
}

fn is_to_end(task: &Task) -> bool {
    task.desired_state == State::Shutdown
}

/// Nothing changes it any more.
fn has_ended(task: &Task) -> bool {
    matches!(
        task.status.state,
        State::Complete | State::Shutdown | State::Failed | State::Rejected | State::Orphaned
    )
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;

    /// A task of each kind: one that runs, one that ends, one that has ended.
    fn before() -> Vec<Task> {
        let task = |id, desired_state, state| {
            let mut task = recorded::task(id, "web", "n1", 1);
            (task.desired_state, task.status.state) = (desired_state, state);
            task
        };
        vec![
            task("runs", State::Running, State::Running),
            task("ends", State::Shutdown, State::Running),
            task("ended", State::Shutdown, State::Failed),
        ]
    }

    #[test]
    fn what_ended_is_not_asked_for_again() {
        let before = before();
        assert_eq!(ending(&before), ["ends"]);
        let [runs, ends, _] = &*before else { unreachable!() };
        let now = renewed(&before, vec![runs.clone()], vec![ends.clone()]);
        assert_eq!(now.as_ref(), Some(&before));
        let now = renewed(&before, vec![runs.clone()], Vec::new()).unwrap();
        assert_eq!(
            now.iter().map(|task| &*task.id).collect::<Vec<_>>(),
            ["runs", "ended"]
        );
    }

    #[test]
    fn what_begins_or_is_told_to_end_needs_the_whole_list() {
        let before = before();
        let [runs, ends, _] = &*before else { unreachable!() };
        let ready = Task {
            desired_state: State::Ready,
            ..runs.clone()
        };
        let other = recorded::task("new", "web", "n1", 2);
        for wanted in [
            vec![],
            vec![ready],
            vec![runs.clone(), other],
            vec![runs.clone(), ends.clone()],
        ] {
            assert_eq!(renewed(&before, wanted, vec![ends.clone()]), None);
        }
    }

    #[test]
    fn all_that_a_swarm_may_want_is_asked_for_but_the_end() {
        for word in WANTED {
            let state: State = serde_json::from_value(word.into()).unwrap();
            assert!(!matches!(state, State::Unknown | State::Shutdown), "{word}");
        }
    }
}
