//! Published ports: `8080`, `8080:80`, `5353:53/udp`, `8000-8010:80`, `8000-8010:9000-9010/tcp`, and exposed ones: `80`,
//! `53/udp`, `9000-9010`. Each may have a name in front: `http=8080:80`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::model::Protocol;
use crate::model::validate::is_label;

/// One published port and the tasks' port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub port: u16,
    pub target_port: u16,
    pub protocol: Protocol,
}

/// What is written in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Option<Arc<str>>,
    pub ports: Vec<Published>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPort {
    #[error("`{0}` is not a port")]
    NotAPort(String),
    #[error("`{0}` is a range that ends before it begins")]
    Backwards(String),
    #[error("{published} published ports cannot lead to a range of {targets}")]
    Unequal { published: usize, targets: usize },
    #[error("`{0}` is not a protocol")]
    Protocol(String),
    #[error("`{0}` is not the name of a port")]
    Name(String),
    #[error("`{0}` is published, not exposed")]
    Published(String),
}

impl BadPort {
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NotAPort(_) => {
                "write PUBLISHED, PUBLISHED:TARGET or PUBLISHED:TARGET/udp with ports from 1 to 65535"
            }
            Self::Backwards(_) => "write the lower port first",
            Self::Unequal { .. } => "write one target port, or a range of the same length",
            Self::Protocol(_) => "write tcp or udp",
            Self::Name(_) => "write letters, digits and hyphens before the =, as in http=8080:80",
            Self::Published(_) => "write PORT or PORT/udp here, or the whole entry under ports",
        }
    }
}

/// Each port of an entry. A single target port serves a whole range; of two ranges, each port has its counterpart.
pub fn parse(entry: &str) -> Result<Entry, BadPort> {
    let (name, entry) = match entry.split_once('=') {
        None => (None, entry),
        Some((name, rest)) if is_label(name) => (Some(name.into()), rest),
        Some((name, _)) => return Err(BadPort::Name(name.to_owned())),
    };
    let ports = published(entry)?;
    Ok(Entry { name, ports })
}

/// A port that is not published: the tasks' own.
pub fn parse_exposed(entry: &str) -> Result<Entry, BadPort> {
    if entry.contains(':') {
        return Err(BadPort::Published(entry.to_owned()));
    }
    parse(entry)
}

fn published(entry: &str) -> Result<Vec<Published>, BadPort> {
    let (ports, protocol) = match entry.split_once('/') {
        None => (entry, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => return Err(BadPort::Protocol(other.to_owned())),
    };
    let (published, targets) = match ports.split_once(':') {
        None => (range(ports)?, range(ports)?),
        Some((published, targets)) => (range(published)?, range(targets)?),
    };
    if targets.len() != 1 && targets.len() != published.len() {
        return Err(BadPort::Unequal {
            published: published.len(),
            targets: targets.len(),
        });
    }
    let pairs = published.zip(targets.clone().chain(std::iter::repeat(*targets.start())));
    Ok(pairs
        .map(|(port, target_port)| Published {
            port,
            target_port,
            protocol,
        })
        .collect())
}

fn range(text: &str) -> Result<RangeInclusive<u16>, BadPort> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(BadPort::Backwards(text.to_owned()));
    }
    Ok(first..=last)
}

fn port(text: &str) -> Result<u16, BadPort> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| BadPort::NotAPort(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5432", &[(5432, 5432)])]
    #[case("8080:80", &[(8080, 80)])]
    #[case("8080:80/tcp", &[(8080, 80)])]
    #[case("8000-8002:80", &[(8000, 80), (8001, 80), (8002, 80)])]
    #[case("8000-8001:9000-9001", &[(8000, 9000), (8001, 9001)])]
    #[case("65535", &[(65535, 65535)])]
    #[case("7-8", &[(7, 7), (8, 8)])]
    fn every_published_port_has_its_target(#[case] entry: &str, #[case] pairs: &[(u16, u16)]) {
        let parsed: Vec<_> = parse(entry)
            .unwrap()
            .ports
            .iter()
            .map(|p| (p.port, p.target_port))
            .collect();
        assert_eq!(parsed, pairs);
    }

    #[test]
    fn udp_is_said_and_tcp_is_meant_otherwise() {
        assert_eq!(parse("53/udp").unwrap().ports[0].protocol, Protocol::Udp);
        assert_eq!(parse("53").unwrap().ports[0].protocol, Protocol::Tcp);
    }

    #[test]
    fn a_port_may_have_a_name_and_an_exposed_one_has_nothing_before_it() {
        let entry = parse("dns=5353:53/udp").unwrap();
        assert_eq!(
            (entry.name.as_deref(), entry.ports[0].target_port),
            (Some("dns"), 53)
        );
        let entry = parse_exposed("http=80").unwrap();
        assert_eq!((entry.name.as_deref(), entry.ports[0].port), (Some("http"), 80));
        assert_eq!(
            parse_exposed("8080:80").unwrap_err().to_string(),
            "`8080:80` is published, not exposed"
        );
    }

    #[rstest]
    #[case("=80", "`` is not the name of a port")]
    #[case("a b=80", "`a b` is not the name of a port")]
    #[case("http=", "`` is not a port")]
    #[case("0", "`0` is not a port")]
    #[case("65536", "`65536` is not a port")]
    #[case("", "`` is not a port")]
    #[case("80:", "`` is not a port")]
    #[case("+80", "`+80` is not a port")]
    #[case("80:80:80", "`80:80` is not a port")]
    #[case("http", "`http` is not a port")]
    #[case("9-8", "`9-8` is a range that ends before it begins")]
    #[case("1-3:1-2", "3 published ports cannot lead to a range of 2")]
    #[case("80/sctp", "`sctp` is not a protocol")]
    fn what_is_no_port_is_refused(#[case] entry: &str, #[case] reason: &str) {
        assert_eq!(parse(entry).unwrap_err().to_string(), reason);
    }

    proptest! {
        #[test]
        fn no_entry_makes_it_panic(entry in "[0-9:=/a-z-]{0,16}") {
            let _ = (parse(&entry), parse_exposed(&entry));
        }
    }
}
