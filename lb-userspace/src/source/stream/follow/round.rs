//! Which manager is next, and when.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::attempt::{Attempt, Failure};
use super::{Follow, FollowReport};
use crate::door::Complaints;
use crate::model::Desired;
use crate::source::backoff::Backoff;
use crate::source::stream::held::Held;
use crate::source::stream::refusal::Refusal;

/// Pause after a round in which nobody answered: doubled each time, and up to half of it shorter by chance.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A connection that lasted as long was a good one.
const GOOD: Duration = Duration::from_secs(2);

/// Never ends.
pub async fn run(
    follow: Follow,
    tell: watch::Sender<Option<Arc<Desired>>>,
    say: watch::Sender<FollowReport>,
) {
    let Follow {
        node,
        mut managers,
        mut certificates,
        figures,
        known,
    } = follow;
    let complaints = Complaints::default();
    let mut held = Held {
        desired: known.unwrap_or_default(),
        ..Held::default()
    };
    let mut backoff = Backoff::new(SHORTEST, LONGEST);
    // Who was there last comes last: it has just gone.
    let mut last = None;
    loop {
        let mut errors = Vec::new();
        let list = shuffled(&managers.borrow_and_update(), last);
        for manager in list {
            let Some(identity) = certificates.identity() else {
                break;
            };
            let start = Instant::now();
            let attempt = Attempt {
                manager,
                node: &node,
                identity,
                certificates: &certificates,
                managers: &managers,
                figures: &figures,
                tell: &tell,
                say: &say,
            };
            let failure = attempt.run(&mut held).await;
            last = Some(manager);
            if let Failure::Unusable(_) = failure {
                // All of it, next time; what is held goes on being served.
                held.epoch = 0;
            }
            let words = format!("{manager}: {failure}");
            let connected = say.borrow().connected.is_some();
            if connected {
                tracing::info!("a manager's agent is followed no more: {words}");
            } else if is_of_trust(&failure) && complaints.due(manager.ip(), Instant::now()) {
                tracing::warn!("a manager's agent is not believed or does not believe this one: {words}");
            } else {
                tracing::debug!("not following: {words}");
            }
            errors.push(words);
            if connected {
                say.send_modify(|report| report.connected = None);
                if start.elapsed() >= GOOD || matches!(failure, Failure::Leisure | Failure::Unlisted) {
                    // Straight to the next one.
                    backoff.reset();
                    errors.clear();
                    break;
                }
            }
        }
        if errors.is_empty()
            && last.is_some()
            && certificates.identity().is_some()
            && !managers.borrow().is_empty()
        {
            continue;
        }
        // The same failures are the same words, in whichever order managers were tried.
        errors.sort();
        let error = match (certificates.identity(), certificates.trouble()) {
            (None, Some(trouble)) => format!("this node cannot show that it is of the swarm: {trouble}"),
            (None, None) => "this node has no certificates of a swarm yet".into(),
            _ if errors.is_empty() => "no manager of the swarm is known".into(),
            _ => errors.join("; "),
        };
        say.send_modify(|report| report.error = Some(error));
        tokio::select! {
            () = tokio::time::sleep(shortened(backoff.pause())) => {}
            Ok(()) = managers.changed() => backoff.reset(),
            () = certificates.changed() => backoff.reset(),
        }
    }
}

fn is_of_trust(failure: &Failure) -> bool {
    matches!(failure, Failure::Refusal(refusal) if *refusal != Refusal::Untold)
}

/// In an order that is another each time, so that followers spread.
fn shuffled(managers: &[SocketAddr], last: Option<SocketAddr>) -> Vec<SocketAddr> {
    let chance = RandomState::new();
    let mut list = managers.to_vec();
    list.sort_by_key(|manager| (Some(*manager) == last, chance.hash_one(manager)));
    list.dedup();
    list
}

/// By up to a half.
fn shortened(pause: Duration) -> Duration {
    let part = RandomState::new().hash_one(0) % 512;
    pause - pause * u32::try_from(part).unwrap_or(0) / 1024
}
