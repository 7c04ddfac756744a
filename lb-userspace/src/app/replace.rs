//! One agent takes another one's place: what it is given, and what it gives when its own time has come.

use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{notify, stop};
use crate::api::Problem;
use crate::config::Config;
use crate::door::Door;
use crate::handover::{self, Given, Lent, Listener, Predecessor, Taken};
use crate::model::{View, Writer};
use crate::plane::ProxyPlane;
use crate::plane::proxy::relay::Relay;

/// Between two looks whether connections have ended.
const LOOK: Duration = Duration::from_millis(10);

/// Everything of the agent that runs here already, if one does.
pub async fn take(config: &Config) -> Result<Taken, Problem> {
    let path = config.paths.handover();
    let taken = handover::take(&path).await.map_err(|error| {
        let (traffic, fix) = if error.changes_nothing() {
            ("it is served as before", "stop that agent, then start this one")
        } else {
            (
                "connections go on, and clients of the proxy wait for the next agent, for a minute",
                "start this one again",
            )
        };
        Problem::new(format!("cannot take over from the agent at {}", path.display()))
            .because(error)
            .traffic(traffic)
            .fix(fix)
    })?;
    Ok(taken.unwrap_or_default())
}

/// Where the next agent asks for it.
pub fn listen(config: &Config) -> Option<Listener> {
    let path = config.paths.handover();
    let listener = Listener::bind(&path);
    listener
        .inspect_err(|error| {
            tracing::warn!(%error, path = %path.display(), "no other agent can take over from this one");
        })
        .ok()
}

/// Agents that still have connections are told that this one serves; their connections are counted. Those that are there, for
/// the next one.
pub fn attend(
    before: Vec<Predecessor>,
    proxy: &ProxyPlane,
    writer: &Writer,
    tasks: &mut JoinSet<()>,
) -> Vec<Weak<Predecessor>> {
    let attend = |one: Predecessor| {
        let one = Arc::new(one);
        let there = Arc::downgrade(&one);
        let (proxy, view) = (proxy.clone(), writer.view());
        tasks.spawn(async move { one.attend(proxy, view).await });
        there
    };
    before.into_iter().map(attend).collect()
}

/// Admits other nodes once it is known which there are: until then they wait in the door's socket.
pub async fn offer(door: Door, relay: Relay, mut view: View) {
    while view.current().generation == 0 {
        if view.changed().await.is_err() {
            return;
        }
    }
    let _relaying = door.offer(relay.room());
    pending().await
}

/// Accepts nobody any more. Who is being let in is let in; where nobody carries on what this agent has, that is given a moment
/// to end by itself, as most requests do.
pub async fn retire(proxy: &ProxyPlane, door: &Door, is_replaced: bool) {
    if !is_replaced {
        proxy.end_relaying();
    }
    let ends = async {
        tokio::join!(proxy.retire(), door.retire());
        while !is_replaced && proxy.connections() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    // The others are cut off.
    let _ = tokio::time::timeout(stop::CONNECTIONS, ends).await;
}

/// What the next agent gets.
#[derive(Clone)]
pub struct Estate {
    pub door: Door,
    pub proxy: ProxyPlane,
    pub before: Vec<Weak<Predecessor>>,
}

impl Estate {
    /// Waits until another agent has it all. From then on this one is to end everything but its connections.
    pub async fn give(self, heirs: Option<Listener>) -> Given {
        let Some(heirs) = heirs else {
            return pending().await;
        };
        let given = handover::give(heirs, move || self.clone().lend()).await;
        notify(&[sd_notify::NotifyState::MainPid(given.successor())]);
        given
    }

    async fn lend(self) -> std::io::Result<Lent> {
        let mut sockets = self.proxy.lend().await?;
        sockets.extend(self.door.lend());
        let before = self.before.iter().filter_map(Weak::upgrade);
        Ok(Lent {
            sockets,
            before: before.map(|one| one.lend()).collect::<std::io::Result<_>>()?,
        })
    }
}
