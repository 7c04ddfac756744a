//! When the agent stops.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::sync::oneshot;

use crate::api::Problem;

/// How long requests on the control socket may go on after the signal.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Ends what waits for the other side.
pub struct Stop(oneshot::Sender<()>);

impl Stop {
    pub fn trigger(self) {
        // Nobody waits any more: all the better.
        let _ = self.0.send(());
    }
}

pub fn channel() -> (Stop, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = oneshot::channel();
    let stopping = async move {
        // An agent that vanished is a reason to stop, too.
        let _ = receiver.await;
    };
    (Stop(sender), stopping)
}

/// Waits for SIGTERM or SIGINT. SIGHUP is taken note of: files are watched, there is nothing to reload.
pub async fn signal() -> Result<&'static str, Problem> {
    let failed = |error| Problem::new("cannot listen for signals").because(error);
    let mut terminate = listen(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = listen(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = listen(SignalKind::hangup()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: sources are watched; portico.toml is read at the start only");
            }
        }
    }
}
