//! A packet as it is typed: `SRC[:PORT] DST:PORT[/udp]`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use crate::model::Protocol;
use crate::plane::Question;

/// The port of a client that was typed without one.
const CLIENT_PORT: u16 = 40000;

#[derive(Clone, Debug, Args)]
pub struct Packet {
    /// The client, as 198.51.100.7, 198.51.100.7:40000 or [2001:db8::7]:40000.
    #[arg(value_name = "SRC[:PORT]", value_parser = source)]
    source: SocketAddr,
    /// What it asks for, as 192.0.2.11:8080 or 192.0.2.11:53/udp.
    #[arg(value_name = "DST:PORT[/udp]", value_parser = destination)]
    destination: (SocketAddr, Protocol),
    /// Ask about a packet in the middle of a connection, instead of the one that opens it.
    #[arg(long)]
    established: bool,
}

impl Packet {
    pub fn question(&self) -> Question {
        let (destination, protocol) = self.destination;
        Question {
            source: self.source,
            destination,
            protocol,
            opens: !self.established,
        }
    }
}

fn source(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, CLIENT_PORT));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "an address, or ADDRESS:PORT ([ADDRESS]:PORT for IPv6)".into())
}

fn destination(text: &str) -> Result<(SocketAddr, Protocol), String> {
    let (address, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((address, "tcp")) => (address, Protocol::Tcp),
        Some((address, "udp")) => (address, Protocol::Udp),
        Some((_, other)) => return Err(format!("unknown protocol {other:?}; tcp or udp")),
    };
    let address = address
        .parse()
        .map_err(|_| "ADDRESS:PORT ([ADDRESS]:PORT for IPv6), with /udp for UDP")?;
    Ok((address, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_ports_and_protocols_are_understood() {
        assert_eq!(source("198.51.100.7"), Ok("198.51.100.7:40000".parse().unwrap()));
        assert_eq!(source("2001:db8::7"), Ok("[2001:db8::7]:40000".parse().unwrap()));
        assert_eq!(source("[2001:db8::7]:9"), Ok("[2001:db8::7]:9".parse().unwrap()));
        assert!(source("client").is_err());
        assert_eq!(
            destination("192.0.2.11:53/udp"),
            Ok(("192.0.2.11:53".parse().unwrap(), Protocol::Udp))
        );
        assert_eq!(
            destination("[2001:db8::b]:80"),
            Ok(("[2001:db8::b]:80".parse().unwrap(), Protocol::Tcp))
        );
        assert!(destination("192.0.2.11").is_err());
        assert!(destination("192.0.2.11:80/sctp").unwrap_err().contains("sctp"));
    }
}
