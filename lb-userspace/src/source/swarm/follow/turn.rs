//! Which part this node takes in its swarm: it asks its own engine as a manager, hears a manager as a worker, or neither.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::super::belief::{Evidence, Swarm};
use super::super::poll::{Polled, poll};
use super::super::role::{Kind, Role, Task};
use super::super::trouble::Trouble;
use super::{Follower, Ways};
use crate::model::Desired;

impl<W: Ways> Follower<W> {
    /// Takes the role that the engine says this node has.
    pub(super) fn assume(&mut self) {
        let local = self.setup.local.borrow_and_update().clone();
        if self.refused.is_none() && self.is_refused() {
            self.refused = Some(Instant::now());
        }
        let member = local.as_ref().and_then(|local| local.swarm.as_ref());
        self.belief.heed(member);
        let said = Kind::of(local.as_deref(), self.refused.is_some());
        let evidence = Evidence {
            at_stake: *self.spoken != Desired::default(),
            answers: self.setup.ways.is_answered(),
            uncertified: said == Kind::Outside && self.setup.ways.is_uncertified(),
        };
        let Some(kind) = self.belief.judge(said, self.role.kind(), evidence) else {
            return;
        };
        if kind == *self.role.kind() {
            return;
        }
        tracing::info!(?kind, "this node's place in the swarm");
        self.turn(&kind);
        // What came before ends first: two would ask for one thing.
        self.role = Role::Idle(Kind::Unknown);
        (self.blind, self.instead) = (None, None);
        self.role = match (&kind, &self.belief.member) {
            (Kind::Manager(_), _) => {
                let (out, polled) = watch::channel(Polled::default());
                let start = self.picture.clone().unwrap_or_default();
                let lists = self.setup.ways.lists();
                let polling = tokio::spawn(poll(lists, self.setup.moved.clone(), out, start));
                Role::Manager(kind, polled, Task(polling))
            }
            (Kind::Follower(_), Some(member)) => {
                self.setup.ways.publish(None);
                let (heard, following) = self.setup.ways.stream(member, self.picture.clone());
                Role::Follower(kind, heard, Task(following))
            }
            _ => {
                self.setup.ways.publish(None);
                Role::Idle(kind)
            }
        };
    }

    /// What another swarm wanted ends; what was kept of an earlier life may be of another one, too.
    fn turn(&mut self, kind: &Kind) {
        let another = match kind {
            Kind::Unknown | Kind::Unsettled => return,
            Kind::Outside => {
                self.belief.swarm = Swarm::default();
                self.belief.member = None;
                true
            }
            Kind::Manager(node) | Kind::Follower(node) => !self.belief.turn_to(Swarm {
                cluster: self.setup.ways.cluster(node),
                node: Some(Arc::clone(node)),
            }),
        };
        if another {
            self.picture = Some(Arc::default());
            self.loaded = None;
            if self.published.is_some() {
                self.setup.ways.publish(None);
            }
        }
        self.published = None;
    }

    fn is_refused(&self) -> bool {
        match &self.role {
            Role::Manager(_, polled, _) => polled.borrow().trouble == Some(Trouble::NotManager),
            _ => false,
        }
    }
}
