//! The same server behind hickory's own listeners, for transports that are not built in (TLS, HTTPS, QUIC).

use std::sync::Arc;

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::config::{Config, ConfigError};
use crate::directory::Directory;
use crate::service::{Outcome, Service};
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

    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.service.statistics)
    }

    /// The bytes of the answer, made in the same way as everywhere, in hickory's form.
    async fn message(&self, request: &Request) -> Option<Message> {
        let mut answer = Vec::new();
        match self
            .service
            .respond(request.as_slice(), request.src(), request.protocol(), &mut answer)
        {
            Outcome::Ready => {}
            Outcome::Nothing => return None,
            Outcome::Later(pending) => pending.finish(&mut answer).await,
        }
        Message::from_vec(&answer).ok()
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
        let Some(message) = self.message(request).await else {
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
