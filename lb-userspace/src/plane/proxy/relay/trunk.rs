//! Connections that carry datagrams: made and taken as those for clients' connections are, once for all flows of a thread.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::timeout;
use tokio_rustls::{client, server};

use super::dial::{Dialer, Failure, Target, say};
use super::limits::HANDSHAKE;
use super::refusal::Refusal;
use super::wire::Wire;
use super::{Shared, lane};
use crate::model::Node;
use crate::plane::proxy::header::relay_header;
use crate::plane::proxy::live::Live;
use crate::plane::proxy::udp;
use crate::plane::proxy::udp::trunk::{Call, Calling, Ended, Found, Link, Members};

impl Dialer {
    async fn trunk(&self, node: &Node) -> Result<client::TlsStream<Wire>, Failure> {
        let mut header = Vec::with_capacity(16);
        relay_header::write_trunk(&mut header);
        let asking = async {
            let mut tls = self.caller.connect(&Target::of(node)).await?;
            tls.get_ref().0.hasten();
            say(&mut tls, &header).await?;
            Ok(tls)
        };
        let outcome = timeout(HANDSHAKE, asking).await.unwrap_or(Err(Failure::Silent));
        self.note(&outcome);
        outcome
    }
}

impl Call for Dialer {
    fn call(&self, node: &Node) -> Calling {
        let (dialer, node) = (self.clone(), node.clone());
        Box::pin(async move {
            let tls = dialer.trunk(&node).await.map_err(io::Error::from)?;
            Ok(Box::new(tls) as Box<dyn Link>)
        })
    }
}

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
    if lane::say(shared, &mut node, super::Answer::Connected)
        .await
        .is_err()
    {
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
        let counted = self.live.count(tag)?;
        Some(Box::new(counted))
    }
}
