//! What this node is to the swarm, and where it learns the swarm's wishes from.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::poll::Polled;
use crate::model::Desired;
use crate::source::Note;
use crate::source::engine::Local;

/// A change of any of it is a change of role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The engine has not said.
    Unknown,
    /// In no swarm.
    Outside,
    /// In one, but the engine does not say as which node: it starts, is locked, or has lost it for a moment.
    Unsettled,
    /// With this id, as everything that follows.
    Manager(Arc<str>),
    /// A worker, or a manager on its way to become one.
    Follower(Arc<str>),
}

impl Kind {
    /// `demoted`: the lists are refused although the engine still says that it is a manager.
    pub fn of(local: Option<&Local>, demoted: bool) -> Self {
        let Some(local) = local else {
            return Self::Unknown;
        };
        match &local.swarm {
            None if local.unclear => Self::Unknown,
            None => Self::Outside,
            Some(member) if member.node.is_empty() => Self::Unsettled,
            Some(member) if member.manager && !demoted => Self::Manager(Arc::clone(&member.node)),
            Some(member) => Self::Follower(Arc::clone(&member.node)),
        }
    }

    /// What the swarm calls this node.
    pub const fn node(&self) -> Option<&Arc<str>> {
        match self {
            Self::Unknown | Self::Outside | Self::Unsettled => None,
            Self::Manager(node) | Self::Follower(node) => Some(node),
        }
    }
}

/// What an agent on a manager tells this one.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// `None` until there is one.
    pub desired: Option<Arc<Desired>>,
    /// When it was told last.
    pub at: Option<SystemTime>,
    /// Who tells it; none: nobody at present.
    pub from: Option<String>,
    /// Why nobody does, laid out for people.
    pub problem: Option<String>,
    /// What is wrong beside that.
    pub notes: Vec<Note>,
}

/// A role and what comes with it; ends with it.
pub enum Role {
    /// Nobody tells anything.
    Idle(Kind),
    Manager(Kind, watch::Receiver<Polled>, Task),
    Follower(Kind, watch::Receiver<Heard>, Task),
}

/// Ends with its owner.
pub struct Task(pub JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Role {
    pub const fn kind(&self) -> &Kind {
        match self {
            Self::Idle(kind) | Self::Manager(kind, ..) | Self::Follower(kind, ..) => kind,
        }
    }

    /// Waits for news.
    pub async fn changed(&mut self) {
        let changed = match self {
            Self::Idle(_) => std::future::pending().await,
            Self::Manager(_, polled, _) => polled.changed().await,
            Self::Follower(_, told, _) => told.changed().await,
        };
        if changed.is_err() {
            // It has failed; what it said last stays.
            std::future::pending().await
        }
    }
}
