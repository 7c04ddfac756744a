//! The follower's side: stays with one manager's agent as long as that is there, and finds another when it is not.

mod attempt;
mod round;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::figures::Figures;
use crate::model::Desired;

/// What following needs.
#[derive(Debug)]
pub struct Follow {
    /// This node, for the managers' logs.
    pub node: Arc<str>,
    /// Where the managers' agents listen; may change, and may be empty.
    pub managers: watch::Receiver<Vec<SocketAddr>>,
    pub certificates: Certificates,
    pub figures: Arc<Figures>,
    /// What was known before: what is the same is shared with it.
    pub known: Option<Arc<Desired>>,
}

/// A stream that is being followed. Dropping it ends it.
#[derive(Debug)]
pub struct Following {
    /// What the swarm wants; `None` until somebody has told. Whatever happens, the last one stays.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    pub report: watch::Receiver<FollowReport>,
    _tasks: JoinSet<()>,
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowReport {
    pub connected: Option<Connection>,
    /// When the latest update came, of whatever connection.
    pub updated: Option<SystemTime>,
    /// Why nobody tells anything: what each manager that was tried has answered, or what is missing here. None while
    /// connected.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub manager: SocketAddr,
    /// The swarm's id of it.
    pub node: String,
    pub since: SystemTime,
}

/// Starts following; needs the runtime.
pub fn follow(follow: Follow) -> Following {
    let (tell, desired) = watch::channel(None);
    let (say, report) = watch::channel(FollowReport::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(round::run(follow, tell, say));
    Following {
        desired,
        report,
        _tasks: tasks,
    }
}
