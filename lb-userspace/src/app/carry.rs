//! Hands each snapshot to the plane.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::notify;
use crate::api::Problem;
use crate::jobs;
use crate::model::{Snapshot, View};
use crate::plane::EbpfError;

/// Before a snapshot that could not be carried out is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What applies a snapshot: a plane's function of that name.
pub trait Apply: Fn(&Arc<Snapshot>) -> Result<(), EbpfError> + Clone + Send + 'static {}

impl<F: Fn(&Arc<Snapshot>) -> Result<(), EbpfError> + Clone + Send + 'static> Apply for F {}

/// Applies the latest snapshot whenever there is a new one, and tells its generation; ends with the writer.
pub async fn carry_out(apply: impl Apply, mut view: View, applied: watch::Sender<u64>) {
    while let Ok(mut snapshot) = view.changed().await {
        while let Err(problem) = once(apply.clone(), &snapshot).await {
            tracing::error!("{problem}");
            tokio::time::sleep(AGAIN).await;
            snapshot = view.current();
        }
        let generation = snapshot.generation;
        applied.send_replace(generation);
        tracing::info!(generation, "applied");
        notify(&[sd_notify::NotifyState::Status(&format!(
            "generation {generation} applied"
        ))]);
    }
}

async fn once(apply: impl Apply, snapshot: &Arc<Snapshot>) -> Result<(), Problem> {
    let snapshot = Arc::clone(snapshot);
    // Thousands of map writes: not on a thread that others wait for.
    match jobs::run("apply a snapshot", move || apply(&snapshot)).await {
        Ok(applied) => applied.map_err(Problem::of),
        Err(panic) => Err(Problem::new("the plane has failed")
            .because(panic)
            .fix("report this as a bug")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::{Desired, Drains, Identity, Writer};

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_could_not_be_applied_is_tried_again() {
        let (writer, _task) = Writer::start(Identity::new([0; 32]), ["test".into()], Drains::default());
        let tried = Arc::new(Mutex::new(Vec::new()));
        let apply = {
            let tried = Arc::clone(&tried);
            move |snapshot: &Arc<Snapshot>| {
                let mut tried = tried.lock().unwrap();
                tried.push(snapshot.generation);
                if tried.len() < 3 {
                    Err(EbpfError::Idle)
                } else {
                    Ok(())
                }
            }
        };
        let carrying = tokio::spawn(carry_out(apply, writer.view(), watch::channel(0).0));
        writer
            .source("test".into(), Arc::new(Desired::default()))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(*tried.lock().unwrap(), [1, 1, 1]);
        carrying.abort();
    }
}
