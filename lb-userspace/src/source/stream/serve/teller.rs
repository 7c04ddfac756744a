//! Tells a follower the newest picture whenever it can take it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::present::Present;
use crate::source::stream::figures::Figures;
use crate::source::stream::peer::Peer;
use crate::source::stream::publisher::{Issue, Publisher, bytes_of};
use crate::source::stream::wire::mesh_server::Mesh;
use crate::source::stream::wire::{FollowRequest, Update};

pub struct Teller {
    publisher: Publisher,
    figures: Arc<Figures>,
}

/// One follower.
struct Listener {
    newest: watch::Receiver<Option<Arc<Issue>>>,
    /// Epoch and generation that it has, or will have once it has read what was sent.
    told: (u64, u64),
    /// It has had an answer.
    answered: bool,
    figures: Arc<Figures>,
    _present: Present,
}

impl Teller {
    pub fn new(publisher: Publisher, figures: Arc<Figures>) -> Self {
        Self { publisher, figures }
    }
}

#[tonic::async_trait]
impl Mesh for Teller {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let newest = self.publisher.subscribe();
        if newest.borrow().is_none() {
            return Err(Status::unavailable(
                "this manager's agent does not know yet what the swarm wants",
            ));
        }
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let FollowRequest {
            epoch,
            generation,
            node,
            version,
        } = request.into_inner();
        let (node, version) = (node.escape_debug(), version.escape_debug());
        let id = peer.as_ref().map_or("?", |peer| &peer.node);
        tracing::info!(%node, id, %version, "an agent follows");
        let listener = Listener {
            newest,
            told: (epoch, generation),
            answered: false,
            figures: Arc::clone(&self.figures),
            _present: Figures::follower(&self.figures),
        };
        // It is asked for the next update when the connection has room for it: what happens meanwhile is merged.
        let updates = stream::unfold(listener, |mut listener| async move {
            let update = listener.next().await?;
            Some((Ok(update), listener))
        });
        Ok(Response::new(Box::pin(updates)))
    }
}

impl Listener {
    /// `None` when there will be no more.
    async fn next(&mut self) -> Option<Update> {
        loop {
            let issue = self.newest.borrow_and_update().clone();
            if let Some(issue) = issue.filter(|issue| !self.answered || issue.place() != self.told) {
                let update = issue.update(self.told.0, self.told.1);
                self.told = issue.place();
                self.answered = true;
                self.figures.sent(update.body.as_ref(), bytes_of(&update));
                return Some(update);
            }
            self.newest.changed().await.ok()?;
        }
    }
}
