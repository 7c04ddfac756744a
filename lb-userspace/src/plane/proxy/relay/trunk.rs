//! The owner's side of connections that carry datagrams: taken as those for clients' connections are, once for all flows of a
//! thread.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio_rustls::server;

use super::refusal::Refusal;
use super::wire::Wire;
use super::{Shared, lane};
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::found::Found;
use crate::plane::proxy::live::Live;
use crate::plane::proxy::udp;
use crate::plane::proxy::udp::trunk::{Ended, Members};

/// Carries the flows of another node.
pub async fn serve(
    shared: &Arc<Shared>,
    mut node: server::TlsStream<Wire>,
    (name, from): (Arc<str>, SocketAddr),
    live: Arc<Live>,
    worker: Rc<udp::Worker>,
) -> Result<(), Refusal> {
    let wire = node.get_ref().0.clone();
    wire.hasten();
    if lane::say(shared, &mut node, Answer::Connected).await.is_err() {
        return Ok(());
    }
    let members = Here {
        shared: Arc::clone(shared),
        live,
        name,
        at: from.ip(),
    };
    match udp::trunk::serve(node, members, worker).await {
        Ok(()) => Ok(()),
        Err(Ended::Unread(unread)) => {
            wire.cut_off();
            Err(Refusal::Malformed(unread.to_string()))
        }
        Err(Ended::Unknown) => {
            wire.cut_off();
            Err(Refusal::Unknown)
        }
        Err(Ended::Broken(error)) => {
            tracing::debug!(%from, %error, "a node's connection for datagrams broke");
            Ok(())
        }
    }
}

/// This node's tasks, for another node.
struct Here {
    shared: Arc<Shared>,
    live: Arc<Live>,
    name: Arc<str>,
    at: IpAddr,
}

impl Members for Here {
    fn are_for_a_node(&self) -> bool {
        self.shared.library.book().has_node(&self.name, self.at)
    }

    fn find(&self, tag: u64) -> Option<Found> {
        self.shared.library.book().member(tag)
    }

    fn count(&self, tag: u64) -> Option<Box<dyn Any>> {
        let counted = self.live.count_flow(tag)?;
        Some(Box::new(counted))
    }
}
