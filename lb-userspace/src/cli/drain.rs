//! `portico drain` and `portico undrain`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::listing::escape;
use super::output::{Format, print};
use super::words::{count, parse_duration};
use crate::api::drain::Progress;
use crate::api::server::Mark;
use crate::api::{Client, Problem};

#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// A node, a task, or SERVICE/TASK.
    #[arg(value_name = "NODE|BACKEND")]
    name: String,
    /// How long to wait for the flows to end; 0s marks and returns.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// How often the flows are counted again.
const PACE: Duration = Duration::from_millis(500);

/// Marks, then shows the flows left until there are none (exit code 0) or the time is over (1).
pub async fn drain(client: &Client, drain: &Drain, format: Format) -> Result<ExitCode, Problem> {
    let start = Instant::now();
    let mut progress = mark(client, &drain.name, true).await?;
    let mut wait = Wait::default();
    let mut done = wait.is_over(&progress);
    let mut shown = String::new();
    while !done && start.elapsed() < drain.timeout {
        let text = text(&progress);
        if format != Format::Json && shown != text {
            println!("{text}");
            shown = text;
        }
        tokio::time::sleep(PACE).await;
        progress = client
            .get(&format!("/v1/drain?name={}", escape(&drain.name)))
            .await?;
        done = wait.is_over(&progress);
    }
    print(format, &progress, |progress| {
        let mut text = text(progress);
        if !done {
            text += &format!(
                "; not waited longer than {:?}: what is left goes on",
                drain.timeout
            );
        }
        text
    })?;
    // Without a wait, setting the mark was all that was asked for.
    Ok(if done || drain.timeout.is_zero() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub async fn undrain(client: &Client, name: &str, format: Format) -> Result<(), Problem> {
    let progress = mark(client, name, false).await?;
    print(format, &progress, |progress| {
        format!("{} takes new connections again", progress.name)
    })
}

async fn mark(client: &Client, name: &str, draining: bool) -> Result<Progress, Problem> {
    let name = name.to_owned();
    client.post("/v1/drain", &Mark { name, draining }).await
}

/// Knows when a drain is done.
#[derive(Default)]
struct Wait {
    /// The first generation seen with none of the backends taking new connections.
    since: Option<u64>,
}

impl Wait {
    /// Takes the latest progress. Flows counted by a round that began before the drain was in force prove nothing: one made
    /// between may be missing.
    fn is_over(&mut self, progress: &Progress) -> bool {
        if progress.drained < progress.backends {
            self.since = None;
            return false;
        }
        // An agent that has restarted counts generations from the start.
        let since = self.since.unwrap_or(progress.generation).min(progress.generation);
        self.since = Some(since);
        progress.here == 0 || progress.left == Some(0) && progress.counted >= Some(since)
    }
}

fn text(progress: &Progress) -> String {
    let mut text = format!(
        "{}: {} of {} without new connections, {}",
        progress.name,
        progress.drained,
        count(progress.backends as u64, "backend"),
        match progress.left {
            Some(left) => format!("{} left", count(left, "flow")),
            None => "flows not counted yet".into(),
        }
    );
    if !progress.elsewhere.is_empty() {
        let nodes = progress.elsewhere.join(", ");
        text += &format!(" here (those on {nodes} are counted there: portico backend ls on {nodes})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::drain::progress;
    use crate::api::sample;
    use crate::model::{DrainObject, Standing};
    use crate::plane::FlowReport;

    fn is_over(progress: &Progress) -> bool {
        Wait::default().is_over(progress)
    }

    #[test]
    fn a_drain_is_done_only_by_a_count_that_began_when_it_was_in_force() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
        });
        let node1 = DrainObject::Node("node1".into());
        facts.flows = FlowReport::default();
        let mut wait = Wait::default();
        let nothing_yet = progress(&facts, &node1);
        assert!(!wait.is_over(&nothing_yet));
        assert!(text(&nothing_yet).ends_with("without new connections, flows not counted yet"));
        facts.flows.generation = Some(4);
        assert!(!wait.is_over(&progress(&facts, &node1)));
        facts.flows.generation = Some(5);
        assert!(wait.is_over(&progress(&facts, &node1)));
    }

    #[test]
    fn changes_after_the_drain_do_not_delay_its_end_and_an_agents_restart_does_not_prevent_it() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
        });
        let node1 = DrainObject::Node("node1".into());
        facts.flows = FlowReport::default();
        let mut wait = Wait::default();
        assert!(!wait.is_over(&progress(&facts, &node1)));
        sample::change(&mut facts, |snapshot| snapshot.generation = 9);
        facts.flows.generation = Some(5);
        assert!(wait.is_over(&progress(&facts, &node1)));

        sample::change(&mut facts, |snapshot| snapshot.generation = 1);
        facts.flows.generation = Some(1);
        assert!(wait.is_over(&progress(&facts, &node1)));
    }

    #[test]
    fn a_drain_is_done_when_nothing_is_left_and_says_who_counts_the_rest() {
        let mut facts = sample::facts();
        let node1 = DrainObject::Node("node1".into());
        assert!(!is_over(&progress(&facts, &node1)));
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
            sample::backend(snapshot, "web.2").standing = Standing::Draining;
        });
        let left = progress(&facts, &node1);
        assert_eq!(
            text(&left),
            "node1: 1 of 1 backend without new connections, 14 flows left"
        );
        assert!(!is_over(&left));
        let elsewhere = progress(&facts, &DrainObject::Node("node2".into()));
        assert!(is_over(&elsewhere));
        assert!(
            text(&elsewhere).ends_with(
                "0 flows left here (those on node2 are counted there: portico backend ls on node2)"
            )
        );
    }
}
