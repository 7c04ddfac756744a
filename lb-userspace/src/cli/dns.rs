//! `portico dns`: what a client would be answered, and why.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use super::output::{Format, indent, print, table};
use super::words::time;
use crate::api::{Client, Problem};
use crate::names::record_type;
use crate::names::report::{AnswerSource, DnsAnswer, DnsQuestion, DnsRecord};

#[derive(Debug, clap::Subcommand)]
pub enum Dns {
    /// Asks the agent's name server, and tells where its answer comes from.
    ///
    /// Exit code 0: there are records; 1: there are none.
    Query(Query),
}

#[derive(Debug, clap::Args)]
pub struct Query {
    /// A name, or an address whose name is asked for.
    name: String,
    /// Record type: A, AAAA, SRV, PTR, … [default: A; PTR for an address]
    #[arg(value_name = "TYPE", value_parser = kind)]
    kind: Option<String>,
    /// The client that asks; by default this node itself, which sees everything.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), hide_default_value = true)]
    from: IpAddr,
}

fn kind(text: &str) -> Result<String, String> {
    match record_type(text) {
        Some(kind) => Ok(kind.to_string()),
        None => Err("a record type, as A, AAAA, SRV, PTR, TXT or TYPE65".into()),
    }
}

impl Query {
    fn question(&self) -> DnsQuestion {
        let address = self.name.parse().ok().filter(|_| self.kind.is_none());
        let (name, kind) = match address {
            Some(address) => (reverse_name(address), "PTR"),
            None => (self.name.clone(), self.kind.as_deref().unwrap_or("A")),
        };
        DnsQuestion {
            name,
            kind: kind.into(),
            from: self.from,
        }
    }
}

/// RFC 1035 §3.5, RFC 3596 §2.5
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let bytes = v6.octets().into_iter().rev();
            let nibbles = bytes.flat_map(|byte| [byte & 0xf, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

pub async fn dns(client: &Client, command: &Dns, format: Format) -> Result<ExitCode, Problem> {
    let Dns::Query(query) = command;
    let answer: DnsAnswer = client.post("/v1/dns", &query.question()).await?;
    print(format, &answer, |answer| text(answer, format))?;
    Ok(match answer.answers.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn text(answer: &DnsAnswer, format: Format) -> String {
    let DnsQuestion { name, kind, from } = &answer.question;
    let mut text = format!("{} {kind} for {from}: {}", name, answer.status);
    if answer.answers.is_empty() && answer.status == "NOERROR" {
        text += ", no record of this type";
    }
    text += "\n";
    text += &indent(&records(&answer.answers));
    let extra = [
        ("authority", &answer.authority),
        ("additional", &answer.additional),
    ];
    for (section, extra) in extra {
        if format == Format::Wide && !extra.is_empty() {
            text += &format!("{section}\n{}", indent(&records(extra)));
        }
    }
    text + &format!("from {}: {}\n", source(answer.source), answer.why)
}

fn records(records: &[DnsRecord]) -> String {
    if records.is_empty() {
        return String::new();
    }
    let row = |record: &DnsRecord| {
        [
            record.name.clone(),
            time(u64::from(record.ttl) * 1000),
            record.kind.clone(),
            record.data.clone(),
        ]
    };
    table(["NAME", "TTL", "TYPE", "DATA"], records.iter().map(row))
}

fn source(source: AnswerSource) -> &'static str {
    match source {
        AnswerSource::Mesh => "the mesh",
        AnswerSource::Server => "the name server itself",
        AnswerSource::Upstream => "upstream",
        AnswerSource::Cache => "the cache",
        AnswerSource::Stale => "the cache, past its time",
        AnswerSource::Nobody => "nobody",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str) -> DnsQuestion {
        let query = Query {
            name: name.into(),
            kind: None,
            from: [127, 0, 0, 1].into(),
        };
        query.question()
    }

    #[test]
    fn an_address_is_asked_for_its_name() {
        assert_eq!(query("web").kind, "A");
        let question = query("10.254.0.1");
        assert_eq!(
            (question.name.as_str(), question.kind.as_str()),
            ("1.0.254.10.in-addr.arpa", "PTR")
        );
        let name = query("fdfe:706f:7274::1").name;
        assert!(
            name.starts_with("1.0.0.0.") && name.ends_with("4.7.2.7.f.6.0.7.e.f.d.f.ip6.arpa"),
            "{name}"
        );
    }

    #[test]
    fn record_types_are_checked_before_anything_is_asked() {
        assert_eq!(kind("aaaa").unwrap(), "AAAA");
        assert!(kind("type65").is_ok());
        assert!(kind("nonsense").is_err());
    }

    #[test]
    fn an_answer_is_told_with_its_source_and_the_reason() {
        let answer = DnsAnswer {
            question: query("web"),
            status: "NOERROR".into(),
            authoritative: true,
            answers: vec![DnsRecord {
                name: "web.".into(),
                ttl: 5,
                kind: "A".into(),
                data: "10.254.0.1".into(),
            }],
            authority: vec![],
            additional: vec![],
            source: AnswerSource::Mesh,
            services: vec!["web".into()],
            upstream: None,
            why: "the service web (on front): its VIP; 127.0.0.1 is this node itself, which sees everything"
                .into(),
        };
        assert_eq!(
            text(&answer, Format::Table),
            "web A for 127.0.0.1: NOERROR\n  \
             NAME  TTL    TYPE  DATA\n  \
             web.  5.0 s  A     10.254.0.1\n\
             from the mesh: the service web (on front): its VIP; 127.0.0.1 is this node itself, which sees everything\n"
        );
        let nothing = DnsAnswer {
            answers: vec![],
            source: AnswerSource::Nobody,
            why: "because".into(),
            ..answer
        };
        assert_eq!(
            text(&nothing, Format::Table),
            "web A for 127.0.0.1: NOERROR, no record of this type\nfrom nobody: because\n"
        );
    }
}
