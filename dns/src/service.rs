//! From a query's bytes to the answer's: checks, the directory, and what is left to the forwarder.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::serialize::binary::{BinDecodable, BinDecoder};
use hickory_server::server::Request;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::answer::{Names, Reply};
use crate::config::{Config, ConfigError};
use crate::directory::Directory;
use crate::encode::{Room, bare, encode, room, truncated};
use crate::forward::{Age, Asked, Forwarder, Packed, Question, Wait};
use crate::limit::{Limit, Verdict};
use crate::statistics::Statistics;
use crate::wire::is_written_out;

/// How long nothing is denied a client that is new: less than resolvers wait before they ask again.
const NEW: Duration = Duration::from_millis(500);
/// Between two looks whether it still is.
const LOOK: Duration = Duration::from_millis(5);

/// Everything that is known between two queries.
pub(crate) struct Service {
    pub(crate) names: Names,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) forwarder: Arc<Forwarder>,
    limit: Option<Limit>,
    max_udp: u16,
}

/// What became of a query.
pub(crate) enum Outcome {
    /// The answer has been written.
    Ready(Source),
    /// There is nothing to say.
    Nothing,
    /// An upstream is being asked, or the client is new.
    Later(Box<Pending>),
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What the directory says, or what every server says about itself and about special names.
    Here,
    /// An upstream's, remembered.
    Memory(SocketAddr),
    /// An upstream's, remembered for longer than it said, because none answers now.
    Stale(SocketAddr),
    /// An upstream's.
    Upstream(SocketAddr),
    /// Nobody's: an error of the query, or that upstreams are missing or silent.
    Nobody,
}

/// A query that waits.
pub(crate) struct Pending {
    service: Arc<Service>,
    request: Request,
    room: Room,
    cause: Cause,
}

/// What is waited for.
enum Cause {
    Upstream(Wait, Instant),
    /// That the directory knows who asks.
    Directory,
}

impl Service {
    pub(crate) fn new(config: &Config, directory: Arc<dyn Directory>) -> Result<Self, ConfigError> {
        let grammar = config.checked()?;
        let statistics = Arc::<Statistics>::default();
        let forwarder = Arc::new(Forwarder::new(&config.forward, Arc::clone(&statistics)));
        Ok(Self {
            names: Names::new(config, grammar, directory, Arc::clone(&forwarder)),
            statistics,
            forwarder,
            limit: config.limit.as_ref().map(Limit::new),
            max_udp: config.max_udp,
        })
    }

    /// Starts to look after the upstreams.
    pub(crate) fn watch_upstreams(&self, tasks: &mut JoinSet<()>) {
        self.forwarder.watch(&self.names.probed(), tasks);
    }

    /// Writes the answer to `out`, which is empty.
    pub(crate) fn respond(
        self: &Arc<Self>,
        packet: &[u8],
        client: SocketAddr,
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Some(header) = self.header(packet) else {
            self.statistics.dropped.increment();
            return Outcome::Nothing;
        };
        if protocol == Protocol::Udp
            && let Some(outcome) = self.limited(packet, client, out)
        {
            return outcome;
        }
        let refuse = |code, out: &mut Vec<u8>| {
            self.statistics.invalid.increment();
            bare(&header.metadata, code, out);
            Outcome::Ready(Source::Nobody)
        };
        if header.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp, out);
        }
        // Before anything is decoded: a count is a promise that costs its sender nothing. No server answers several
        // questions (RFC 9619).
        if header.counts.queries != 1 || !is_written_out(packet) {
            return refuse(ResponseCode::FormErr, out);
        }
        let Ok(request) = Request::from_bytes(packet.to_vec(), client, protocol) else {
            return refuse(ResponseCode::FormErr, out);
        };
        let Some(query) = request.queries.queries().first() else {
            return refuse(ResponseCode::FormErr, out);
        };
        let mut room = room(request.edns.as_ref(), protocol == Protocol::Udp, self.max_udp);
        if request.version() > 0 {
            self.statistics.invalid.increment();
            if let Some(opt) = &mut room.opt {
                opt.code = ResponseCode::BADVERS.high();
            }
            self.write(&request, &Reply::code(ResponseCode::BADVERS), room, out);
            return Outcome::Ready(Source::Nobody);
        }
        let client = canonical(client.ip());
        match self.names.answer(query.original(), client) {
            Some(reply) if reply.code != ResponseCode::NXDomain || !self.names.is_new(client) => {
                Outcome::Ready(self.reply(&request, &reply, room, out))
            }
            None if !self.names.is_new(client) => self.forward(request, room, out),
            _ => Outcome::Later(Box::new(Pending {
                service: Arc::clone(self),
                request,
                room,
                cause: Cause::Directory,
            })),
        }
    }

    fn reply(&self, request: &Request, reply: &Reply, room: Room, out: &mut Vec<u8>) -> Source {
        self.count(reply);
        self.write(request, reply, room, out);
        Source::Here
    }

    fn limited(&self, packet: &[u8], client: SocketAddr, out: &mut Vec<u8>) -> Option<Outcome> {
        match self.limit.as_ref()?.check(canonical(client.ip())) {
            Verdict::Answer => None,
            Verdict::Truncate => {
                self.statistics.limited_truncated.increment();
                truncated(packet, out);
                Some(Outcome::Ready(Source::Nobody))
            }
            Verdict::Drop => {
                self.statistics.limited_dropped.increment();
                Some(Outcome::Nothing)
            }
        }
    }

    fn forward(self: &Arc<Self>, request: Request, room: Room, out: &mut Vec<u8>) -> Outcome {
        let start = Instant::now();
        let code = match self.ask(&request, room) {
            Asked::Known(packed, age) => {
                let (counter, source) = match age {
                    Age::Fresh(_) => (&self.statistics.cached, Source::Memory(packed.from)),
                    Age::Stale => (&self.statistics.stale, Source::Stale(packed.from)),
                };
                counter.increment();
                self.write_packed(&request, &packed, age, room, out);
                return Outcome::Ready(source);
            }
            Asked::Later(wait) => {
                return Outcome::Later(Box::new(Pending {
                    service: Arc::clone(self),
                    request,
                    room,
                    cause: Cause::Upstream(wait, start),
                }));
            }
            Asked::Failed => {
                self.statistics.forwarded_failed.increment();
                ResponseCode::ServFail
            }
            Asked::Overloaded => {
                self.statistics.overloaded.increment();
                ResponseCode::ServFail
            }
            Asked::Nobody => {
                self.statistics.refused.increment();
                ResponseCode::Refused
            }
        };
        self.write(&request, &Reply::code(code), room, out);
        Outcome::Ready(Source::Nobody)
    }

    pub(crate) fn ask(&self, request: &Request, room: Room) -> Asked {
        let Some(query) = request.queries.queries().first() else {
            return Asked::Nobody;
        };
        // Without RD the client wants what we know ourselves, and that is nothing; what others have asked for is not for
        // it to find out.
        if !request.metadata.recursion_desired {
            return Asked::Nobody;
        }
        let dnssec_ok = room.opt.is_some_and(|opt| opt.dnssec_ok);
        let question = Question::new(query.original(), &request.metadata, dnssec_ok);
        self.forwarder.ask(question, canonical(request.src().ip()))
    }

    fn write_packed(&self, request: &Request, packed: &Packed, age: Age, room: Room, out: &mut Vec<u8>) {
        if packed.write(&request.metadata, request.queries.as_bytes(), room, age, out) {
            self.statistics.truncated.increment();
        }
    }

    /// `None` for what must not be answered: what is shorter than a header says nothing, and answers to answers go on
    /// for ever.
    fn header(&self, packet: &[u8]) -> Option<Header> {
        let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
        (header.message_type == MessageType::Query).then_some(header)
    }

    fn write(&self, request: &Request, reply: &Reply, room: Room, out: &mut Vec<u8>) {
        let metadata = self.metadata(&request.metadata, reply);
        if encode(request, metadata, reply, room, out) {
            self.statistics.truncated.increment();
        }
    }

    pub(crate) fn metadata(&self, request: &Metadata, reply: &Reply) -> Metadata {
        let mut metadata = Metadata::response_from_request(request);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        // RFC 4035 §3.1.6: nothing was there to be checked.
        metadata.checking_disabled &= !reply.authoritative;
        metadata.recursion_available = self.forwards();
        metadata
    }

    pub(crate) fn forwards(&self) -> bool {
        !self.forwarder.is_empty()
    }

    pub(crate) fn count(&self, reply: &Reply) {
        let counter = match reply.code {
            ResponseCode::NoError if reply.answers.is_empty() => &self.statistics.nodata,
            ResponseCode::NoError => &self.statistics.found,
            ResponseCode::NXDomain => &self.statistics.nxdomain,
            ResponseCode::Refused => &self.statistics.refused,
            ResponseCode::ServFail => &self.statistics.unready,
            _ => &self.statistics.invalid,
        };
        counter.increment();
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Pending {
    /// Writes the answer to `out`, which is empty.
    pub(crate) async fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Source {
        match self.known(out).await {
            Ok(source) => source,
            Err(pending) => pending.heard(out).await,
        }
    }

    /// Answers a client that was new, as far as no upstream has to be asked.
    async fn known(mut self: Box<Self>, out: &mut Vec<u8>) -> Result<Source, Box<Self>> {
        if let Cause::Directory = self.cause {
            let client = canonical(self.request.src().ip());
            let until = Instant::now() + NEW;
            while self.service.names.is_new(client) && Instant::now() < until {
                sleep(LOOK).await;
            }
            let query = self.request.queries.queries().first();
            let reply = query.and_then(|query| self.service.names.answer(query.original(), client));
            if let Some(reply) = reply {
                return Ok(self.service.reply(&self.request, &reply, self.room, out));
            }
            let service = Arc::clone(&self.service);
            let (request, room) = (self.request, self.room);
            match service.forward(request, room, out) {
                Outcome::Ready(source) => return Ok(source),
                Outcome::Nothing => return Ok(Source::Nobody),
                Outcome::Later(pending) => self = pending,
            }
        }
        Err(self)
    }

    /// Waits for an upstream.
    async fn heard(self: Box<Self>, out: &mut Vec<u8>) -> Source {
        let Self {
            service,
            request,
            room,
            cause: Cause::Upstream(wait, start),
        } = *self
        else {
            return Source::Nobody;
        };
        let source = match wait.answer().await {
            Ok((packed, age)) => {
                let (counter, source) = match age {
                    Age::Fresh(_) => (
                        &service.statistics.forwarded_answered,
                        Source::Upstream(packed.from),
                    ),
                    Age::Stale => (&service.statistics.stale, Source::Stale(packed.from)),
                };
                counter.increment();
                service.write_packed(&request, &packed, age, room, out);
                source
            }
            Err(_) => {
                service.statistics.forwarded_failed.increment();
                service.write(&request, &Reply::code(ResponseCode::ServFail), room, out);
                Source::Nobody
            }
        };
        service.statistics.forwarded.add(1, start.elapsed());
        source
    }
}
