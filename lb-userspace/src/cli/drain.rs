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
    let mut shown = None;
    while !is_done(&progress) && start.elapsed() < drain.timeout {
        if format != Format::Json && shown != Some(progress.left) {
            shown = Some(progress.left);
            println!("{}", text(&progress));
        }
        tokio::time::sleep(PACE).await;
        progress = client
            .get(&format!("/v1/drain?name={}", escape(&drain.name)))
            .await?;
    }
    print(format, &progress, |progress| {
        let mut text = text(progress);
        if !is_done(progress) {
            text += &format!(
                "; not waited longer than {:?}: what is left goes on",
                drain.timeout
            );
        }
        text
    })?;
    // Without a wait, setting the mark was all that was asked for.
    Ok(if is_done(&progress) || drain.timeout.is_zero() {
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

fn is_done(progress: &Progress) -> bool {
    progress.drained == progress.backends && progress.left == 0
}

fn text(progress: &Progress) -> String {
    let mut text = format!(
        "{}: {} of {} without new connections, {} left",
        progress.name,
        progress.drained,
        count(progress.backends as u64, "backend"),
        count(progress.left, "flow"),
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

    #[test]
    fn a_drain_is_done_when_nothing_is_left_and_says_who_counts_the_rest() {
        let mut facts = sample::facts();
        let node1 = DrainObject::Node("node1".into());
        assert!(!is_done(&progress(&facts, &node1)));
        sample::change(&mut facts, |snapshot| {
            sample::backend(snapshot, "web.1").standing = Standing::Draining;
            sample::backend(snapshot, "web.2").standing = Standing::Draining;
        });
        let left = progress(&facts, &node1);
        assert_eq!(
            text(&left),
            "node1: 1 of 1 backend without new connections, 14 flows left"
        );
        assert!(!is_done(&left));
        let elsewhere = progress(&facts, &DrainObject::Node("node2".into()));
        assert!(is_done(&elsewhere));
        assert!(
            text(&elsewhere).ends_with(
                "0 flows left here (those on node2 are counted there: portico backend ls on node2)"
            )
        );
    }
}
