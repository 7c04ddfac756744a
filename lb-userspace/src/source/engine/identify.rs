//! What the engine is to a swarm. On a manager it asks the leader before it answers, which may take long: nothing else waits
//! for it.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::SystemInfo;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::connect::ask;
use super::problem::Reason;
use super::translate;

/// An engine that joins or leaves a swarm has no event for it.
const EVERY: Duration = Duration::from_secs(5);
/// An engine that is said to have left its swarm is asked again after this time before it is believed.
const DOUBT: Duration = Duration::from_secs(2);

/// Asks again and again, and whenever it is woken, until nobody listens.
///
/// `member`: the engine was in a swarm when it was asked last.
pub async fn identify(
    client: Docker,
    mut member: bool,
    wake: Arc<Notify>,
    outbox: mpsc::Sender<Result<Box<SystemInfo>, Reason>>,
) {
    let mut doubted = false;
    loop {
        let answer = ask("GET /info", client.info()).await.map(Box::new);
        if let Ok(info) = &answer {
            let is_member = translate::membership(info).is_some();
            if member && !is_member && !doubted {
                // All services of the swarm would go: a single word is not enough for that.
                doubted = true;
                sleep(DOUBT).await;
                continue;
            }
            (member, doubted) = (is_member, false);
        }
        if outbox.send(answer).await.is_err() {
            return;
        }
        // Woken, or tired of waiting.
        let _ = timeout(EVERY, wake.notified()).await;
    }
}
