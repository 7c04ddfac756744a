//! What the plane does without being asked: watch the machine, end flows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt;

use super::netlink::Netlink;
use super::supervise::Duty;
use super::{Shared, State};
use crate::plane::{EbpfError, Problem};

/// The machine is looked at this often even if it says nothing.
const REFRESH: Duration = Duration::from_secs(1);
/// The programs hear this often that the agent lives; after five seconds without it they trust its tables less.
const BEAT: Duration = Duration::from_secs(1);
/// Changes come in crowds: one look for all that come within this time.
const GATHER: Duration = Duration::from_millis(20);
/// One step of expiry, at most, in this time.
const STEP: Duration = Duration::from_millis(50);
/// The same while a table of flows is more than half full.
const STEP_CROWDED: Duration = Duration::from_millis(5);
/// A round of expiry begins no sooner than this after the last.
const ROUND: Duration = Duration::from_secs(2);
/// Hints and chain tables that nobody needs any more are looked for this often.
const TIDY: Duration = Duration::from_secs(30);

const LOOK: &str = "look at the machine";
const EXPIRE: &str = "end flows";

pub const WATCH: Duty = Duty {
    name: "watch",
    traffic: "new devices, addresses and routes are not followed meanwhile; what was programmed before goes on",
};
pub const BEATING: Duty = Duty {
    name: "beat",
    traffic: "after five seconds the programs trust the tables less",
};
pub const EXPIRY: Duty = Duty {
    name: "expire",
    traffic: "flows that ended stay in their table meanwhile; once it is full new connections are refused",
};

/// Keeps the tables in step with devices, addresses, neighbours and routes.
pub async fn watch(shared: Arc<Shared>) -> Result<Infallible, EbpfError> {
    let mut changes = Netlink::changes()?;
    loop {
        tokio::select! {
            change = changes.next() => if change.is_none() {
                return Err(EbpfError::Netlink("the kernel's messages ended".into()));
            },
            () = shared.look.notified() => {}
            () = tokio::time::sleep(REFRESH) => {}
        }
        tokio::time::sleep(GATHER).await;
        // Those that came meanwhile are seen by the look that follows.
        while let Some(Some(())) = futures_util::FutureExt::now_or_never(changes.next()) {}
        let destinations = shared.with(LOOK, |state| state.destinations()).await;
        match shared.netlink.read(&destinations).await {
            Ok(host) => {
                let unresolved = shared.with(LOOK, |state| {
                    state.problems.remove("look");
                    let unresolved = state.look(host, destinations).into_iter();
                    let bridged =
                        unresolved.map(|(device, address)| (device, address, state.is_bridge(device)));
                    bridged.collect::<Vec<_>>()
                });
                for (device, address, is_bridged) in unresolved.await {
                    shared.netlink.resolve(device, address, is_bridged).await;
                }
                tend(&shared).await;
            }
            Err(error) => {
                let problem = Problem {
                    error: error.to_string(),
                    traffic: "new devices, addresses and routes are not followed; what was programmed before goes on".into(),
                    fix: "it is tried again every second".into(),
                };
                let note = |state: &mut State| state.problems.insert("look", vec![problem]);
                if shared.with(LOOK, note).await.is_none() {
                    tracing::warn!(%error, "the machine cannot be looked at");
                }
            }
        }
    }
}

/// Has `portico0` as it should be. What follows from a step is seen by the look that the kernel's message about it brings.
async fn tend(shared: &Arc<Shared>) {
    let steps = shared.with(LOOK, |state| state.tend()).await;
    let mut refused = Vec::new();
    for step in steps {
        if let Err(error) = shared.netlink.take(&step).await {
            refused.push((step, error.to_string()));
        }
    }
    shared.with(LOOK, move |state| state.tended(&refused)).await;
}

/// Tells the programs that there is an agent.
pub async fn beat(shared: Arc<Shared>) -> Result<Infallible, EbpfError> {
    loop {
        tokio::time::sleep(BEAT).await;
        let beat = shared.with("tell the programs of the agent", |state| state.beat());
        if let Err(error) = beat.await {
            tracing::warn!(%error, "the programs cannot be told that the agent lives");
        }
    }
}

/// Whoever applies a snapshot waits for no more than what is done to a few entries.
async fn step(shared: &Arc<Shared>) -> Result<bool, EbpfError> {
    match shared.with(EXPIRE, |state| state.next_to_expire()).await {
        Some(reading) => {
            let batch = reading.read()?;
            shared.with(EXPIRE, |state| state.expire(batch)).await
        }
        None => Ok(true),
    }
}

/// Ends flows, a step at a time.
pub async fn expire(shared: Arc<Shared>) -> Result<Infallible, EbpfError> {
    let mut began = Instant::now();
    let mut tidied = Instant::now();
    loop {
        let crowded = shared.with(EXPIRE, |state| state.is_crowded()).await;
        tokio::time::sleep(if crowded { STEP_CROWDED } else { STEP }).await;
        match step(&shared).await {
            Ok(true) => {
                tokio::time::sleep(ROUND.saturating_sub(began.elapsed())).await;
                began = Instant::now();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "flows cannot be looked through");
                tokio::time::sleep(ROUND).await;
            }
        }
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            if let Err(error) = shared.with(EXPIRE, |state| state.tidy()).await {
                tracing::warn!(%error, "hints cannot be looked through");
            }
        }
    }
}
