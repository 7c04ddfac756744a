//! The server without sockets: for questions from within the program, and behind hickory's own listeners, for transports
//! that are not built in (TLS, HTTPS, QUIC).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata, Query};
use hickory_server::proto::rr::{Name, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::config::{Config, ConfigError};
use crate::directory::Directory;
use crate::forward::UpstreamReport;
use crate::service::{Outcome, Service, Source};
use crate::statistics::Statistics;

/// Answers requests of a [`hickory_server::Server`]. Its upstreams are not probed: that is what [`crate::Server`] does.
pub struct Handler {
    service: Arc<Service>,
}

impl Handler {
    /// Listens on nothing; the configured addresses are those that the server has.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(config: &Config, directory: Arc<dyn Directory>) -> Result<Self, ConfigError> {
        Ok(Self {
            service: Arc::new(Service::new(config, directory)?),
        })
    }

    pub(crate) fn of(service: &Arc<Service>) -> Self {
        Self {
            service: Arc::clone(service),
        }
    }

    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.service.statistics)
    }

    /// Whom it asks for what is not its own, those for the longest domains first.
    pub fn upstreams(&self) -> Vec<UpstreamReport> {
        self.service.forwarder.reports()
    }

    /// The answer to a query of any transport, and where it comes from; `None` where there must be none. Only UDP is
    /// limited in size and rate.
    pub async fn respond(
        &self,
        query: &[u8],
        client: SocketAddr,
        protocol: Protocol,
    ) -> Option<(Vec<u8>, Source)> {
        let mut answer = Vec::new();
        let source = match self.service.respond(query, client, protocol, &mut answer) {
            Outcome::Ready(source) => source,
            Outcome::Nothing => return None,
            Outcome::Later(pending) => pending.finish(&mut answer).await,
        };
        Some((answer, source))
    }

    /// Asks as a client with this address would, by TCP.
    ///
    /// # Errors
    /// The name cannot be one.
    pub async fn ask(
        &self,
        name: &str,
        kind: RecordType,
        client: IpAddr,
    ) -> Result<(Message, Source), ProtoError> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        let mut name = Name::from_ascii(name)?;
        name.set_fqdn(true);
        query.add_query(Query::query(name, kind));
        let answer = self
            .respond(&query.to_vec()?, (client, 0).into(), Protocol::Tcp)
            .await;
        let (bytes, source) = answer.ok_or("a query is always answered")?;
        Ok((Message::from_vec(&bytes)?, source))
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let nothing = |metadata: &Metadata| {
            ResponseInfo::from(Header {
                metadata: Metadata::response_from_request(metadata),
                counts: HeaderCounts::default(),
            })
        };
        // Made in the same way as everywhere, then read again for hickory.
        let answer = self
            .respond(request.as_slice(), request.src(), request.protocol())
            .await;
        let Some(message) = answer.and_then(|(bytes, _)| Message::from_vec(&bytes).ok()) else {
            return nothing(&request.metadata);
        };
        let response = MessageResponseBuilder::new(&request.queries, message.edns.as_ref()).build(
            message.metadata,
            &message.answers,
            &message.authorities,
            [],
            &message.additionals,
        );
        let sent = response_handle.send_response(response).await;
        sent.unwrap_or_else(|_| nothing(&request.metadata))
    }
}
