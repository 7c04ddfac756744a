//! The ingress' side of connections that carry datagrams: made as those for clients' connections are, once for all flows of a
//! thread.

use std::io;

use tokio::time::timeout;
use tokio_rustls::client;

use super::dial::{Destination, Dialer, Failure, say};
use super::limits::HANDSHAKE;
use super::wire::Wire;
use crate::model::Node;
use crate::plane::proxy::header::relay_header;
use crate::plane::proxy::udp::trunk::{Call, Calling, Link};

impl Dialer {
    async fn trunk(&self, node: &Node) -> Result<client::TlsStream<Wire>, Failure> {
        let mut header = Vec::with_capacity(16);
        relay_header::write_trunk(&mut header);
        let asking = async {
            let mut tls = self.caller.connect(&Destination::of(node)).await?;
            tls.get_ref().0.hasten();
            say(&mut tls, &header).await?;
            Ok(tls)
        };
        let outcome = timeout(HANDSHAKE, asking).await.unwrap_or(Err(Failure::Silent));
        self.note(&outcome);
        if outcome.is_err() {
            self.shelves.look(&self.caller, &Destination::of(node));
        }
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
