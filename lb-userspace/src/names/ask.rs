//! One question from within, with the reason for its answer.

use std::str::FromStr;

use dns::Source;
use dns::proto::op::{Message, ResponseCode};
use dns::proto::rr::{Record, RecordType};

use super::report::{AnswerSource, DnsAnswer, DnsQuestion, DnsRecord};
use super::serve::NameServer;
use super::trace::{Note, noted};

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unaskable {
    #[error("{0:?} is no record type")]
    Kind(String),
    #[error("{name:?} is no domain name: {reason}")]
    Name { name: String, reason: String },
}

impl NameServer {
    /// Asks as a client with the question's address would, by TCP, with the server's own memory and counters.
    pub async fn ask(&self, question: DnsQuestion) -> Result<DnsAnswer, Unaskable> {
        let kind = record_type(&question.kind).ok_or_else(|| Unaskable::Kind(question.kind.clone()))?;
        let asked = self.handler.ask(&question.name, kind, question.from);
        let (answer, notes) = noted(asked).await;
        let (message, source) = answer.map_err(|error| Unaskable::Name {
            name: question.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(self.told(question, kind, &message, source, &notes))
    }

    fn told(
        &self,
        question: DnsQuestion,
        kind: RecordType,
        message: &Message,
        source: Source,
        notes: &[Note],
    ) -> DnsAnswer {
        let code = message.metadata.response_code;
        let note = notes.last().filter(|_| source == Source::Here);
        let (from, upstream) = match source {
            Source::Here if note.is_some() => (AnswerSource::Mesh, None),
            Source::Here => (AnswerSource::Server, None),
            Source::Memory(upstream) => (AnswerSource::Cache, Some(upstream)),
            Source::Stale(upstream) => (AnswerSource::Stale, Some(upstream)),
            Source::Upstream(upstream) => (AnswerSource::Upstream, Some(upstream)),
            Source::Nobody => (AnswerSource::Nobody, None),
        };
        let why = match (note, from, upstream) {
            (Some(note), ..) => match lack(note, kind, message) {
                Some(lack) => format!("{lack}; {}", note.words),
                None => note.words.clone(),
            },
            (_, AnswerSource::Cache, Some(upstream)) => format!("{upstream} has said so before"),
            (_, AnswerSource::Stale, Some(upstream)) => {
                format!("{upstream} said so once; no name server answers now")
            }
            (_, _, Some(upstream)) => format!("{upstream} says so"),
            _ => self.reason(code).to_owned(),
        };
        let services = note.map_or(&[][..], |note| &note.services);
        let records = |records: &[Record]| records.iter().map(record).collect();
        DnsAnswer {
            question,
            status: status(code),
            authoritative: message.metadata.authoritative,
            answers: records(&message.answers),
            authority: records(&message.authorities),
            additional: records(&message.additionals),
            source: from,
            services: services.to_vec(),
            upstream,
            why,
        }
    }

    /// Of an answer that is neither a service's nor an upstream's.
    fn reason(&self, code: ResponseCode) -> &'static str {
        match code {
            ResponseCode::NXDomain => "no service, container or network is called so, or has the address",
            ResponseCode::NoError => "the name server knows this itself",
            ResponseCode::Refused if self.forwards() => "questions of this kind are not answered",
            ResponseCode::Refused => {
                "it is no name of the mesh, and there is nobody to ask: see [dns] upstreams"
            }
            ResponseCode::ServFail if self.names().generation() == 0 => "the names are not known yet",
            ResponseCode::ServFail => "no name server answered in time: see portico status",
            _ => "the question cannot be understood",
        }
    }
}

/// What is missing at a name that the client may see.
fn lack(note: &Note, kind: RecordType, message: &Message) -> Option<&'static str> {
    if note.hidden || !message.answers.is_empty() {
        return None;
    }
    Some(match (message.metadata.response_code, kind) {
        (ResponseCode::NXDomain, _) => "no port is called so",
        (_, RecordType::A) => "no IPv4 address",
        (_, RecordType::AAAA) => "no IPv6 address",
        (_, RecordType::SRV) => "no port to be named",
        _ => "no records of this type",
    })
}

/// By its name, in any case, or as `TYPE65` (RFC 3597 §5).
pub fn record_type(text: &str) -> Option<RecordType> {
    let text = text.to_ascii_uppercase();
    let number = text
        .strip_prefix("TYPE")
        .and_then(|number| number.parse::<u16>().ok());
    number
        .map(RecordType::from)
        .or_else(|| RecordType::from_str(&text).ok())
}

/// As every tool prints it (RFC 6895 §2.3).
fn status(code: ResponseCode) -> String {
    let name = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        other => return format!("RCODE{}", u16::from(other)),
    };
    name.into()
}

fn record(record: &Record) -> DnsRecord {
    DnsRecord {
        name: record.name.to_string(),
        ttl: record.ttl,
        kind: record.record_type().to_string(),
        data: record.data.to_string(),
    }
}
