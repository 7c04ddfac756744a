//! Several upstreams, one answer: the fastest is asked first, the next when it takes long or fails.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::exchange::{Manner, ask};
use super::packed::Packed;
use super::question::Question;
use super::upstream::{Group, Upstream};

/// Datagrams are lost: everyone is asked so often.
const ROUNDS: u32 = 3;
/// After so long the first question may have been lost, and all are asked again; twice as long the next time.
const AGAIN: Duration = Duration::from_millis(400);

/// The first answer that says something; failing that, what an upstream said about not being able to; `None` if none
/// said anything. Ends in its own time, which the caller limits.
pub(super) async fn race(group: &Group, question: &Question, manner: &Manner<'_>) -> Option<Packed> {
    let order = group.order();
    let mut plan = VecDeque::new();
    for round in 0..ROUNDS {
        let last = order.len().saturating_sub(1);
        let asked = order.iter().enumerate();
        plan.extend(asked.map(|(at, upstream)| match at == last {
            true => (*upstream, AGAIN * 2u32.pow(round)),
            false => (*upstream, patience(upstream)),
        }));
    }
    let mut running = FuturesUnordered::new();
    let mut excuse = None;
    loop {
        let patience = match plan.pop_front() {
            Some((upstream, patience)) => {
                running.push(ask(upstream, question, manner));
                patience
            }
            None if running.is_empty() => return excuse,
            None => manner.attempt,
        };
        let has_next = !plan.is_empty();
        let waiting = sleep(patience);
        tokio::pin!(waiting);
        tokio::select! {
            Some(result) = running.next() => match result {
                Ok(packed) if packed.is_conclusive() => return Some(packed),
                Ok(packed) => excuse = Some(packed),
                Err(_) => {}
            },
            () = &mut waiting, if has_next => {}
        }
    }
}

/// How long one is waited for before another is asked as well. A server that has to find out takes longer than it takes
/// on the average, so this is generous where it is fast.
fn patience(upstream: &Upstream) -> Duration {
    let usual = upstream.smoothed() * 2 + Duration::from_millis(20);
    usual.clamp(Duration::from_millis(50), Duration::from_millis(400))
}
