//! The name server, the whole way: each address asked as containers do, and whom it asks itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dns::proto::op::{Message, Query, ResponseCode};
use dns::proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::finding::Finding;
use crate::api::published::Published;
use crate::config::{Config, Dns};
use crate::names;

/// A name server on the same machine answers in microseconds, one elsewhere in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
enum By {
    Udp,
    Tcp,
}

/// `running`: whether there is an agent that should answer.
pub async fn check(config: &Config, published: Option<&Published>, running: bool) -> Vec<Finding> {
    let dns = &config.dns;
    if dns.listen.is_empty() {
        return vec![Finding::ok("names", "not served: [dns] listen is empty")];
    }
    let mut findings = Vec::new();
    for address in &dns.listen {
        findings.push(match running {
            true => served(dns, *address, published).await,
            false => free(*address),
        });
    }
    findings.extend(upstreams(dns).await);
    findings
}

/// Whether an agent could listen there.
fn free(address: SocketAddr) -> Finding {
    match names::try_address(address) {
        Ok(()) => Finding::ok("names", format!("{address} is free for the name server")),
        Err(error) => Finding::failure(
            "names",
            format!("{address} cannot be listened on: {error}"),
            taken(address),
        ),
    }
}

fn taken(address: SocketAddr) -> String {
    let port = address.port();
    format!("end the other name server (ss -lntup 'sport = :{port}'), or change [dns] listen")
}

/// The zone, and a service of the mesh, by both protocols.
async fn served(dns: &Dns, address: SocketAddr, published: Option<&Published>) -> Finding {
    let at = SocketAddr::new(reachable(address.ip()), address.port());
    let apex = format!("{}.", dns.domain);
    // Others are served, but not to whoever asks.
    let mut known = published.iter().flat_map(|published| &published.services);
    let service = known.find(|service| service.public);
    let service = service.map(|service| format!("{}.{apex}", service.name));
    for (by, protocol) in [(By::Udp, "udp"), (By::Tcp, "tcp")] {
        let failure =
            |what: &str, fix: String| Finding::failure("names", format!("{address}/{protocol} {what}"), fix);
        let soa = match ask(at, &apex, RecordType::SOA, by).await {
            Ok(answer) => answer,
            Err(error) => {
                let fix = match names::has_address(at.ip()) {
                    false => format!(
                        "no device has {}: give it to one, or take it out of [dns] listen",
                        at.ip()
                    ),
                    true => "see portico status; a firewall of this node may drop the questions".into(),
                };
                return failure(&format!("does not answer: {error}"), fix);
            }
        };
        if !soa.metadata.authoritative || soa.answers.is_empty() {
            return failure(&format!("answers, but not for {}", dns.domain), taken(address));
        }
        let Some(service) = &service else { continue };
        match ask(at, service, RecordType::A, by).await {
            Ok(answer) if answer.metadata.response_code == ResponseCode::NoError => {}
            Ok(answer) => {
                let code = answer.metadata.response_code;
                return failure(
                    &format!("does not know {service} ({code})"),
                    format!("see why: portico dns query {service}"),
                );
            }
            Err(error) => {
                return failure(
                    &format!("does not answer for {service}: {error}"),
                    "see portico status".into(),
                );
            }
        }
    }
    let names = [Some(apex), service].into_iter().flatten().collect::<Vec<_>>();
    let names = names.join(" and ");
    Finding::ok("names", format!("{address} answers for {names} by UDP and TCP"))
}

/// Those of the configuration or, without any, of the node.
async fn upstreams(dns: &Dns) -> Vec<Finding> {
    let all = names::upstreams(dns);
    let all = all.iter().map(|upstream| (upstream, "upstreams"));
    let routed = dns.routes.values().flatten();
    let routed = routed.map(|upstream| (upstream, "routes"));
    let mut findings = Vec::new();
    if all.len() == 0 {
        let words = "there is no name server to ask for names of others: they are refused";
        findings.push(match dns.upstreams {
            Some(_) => Finding::ok("upstreams", format!("{words}, as [dns] upstreams = [] says")),
            None => Finding::warning("upstreams", words, "set [dns] upstreams = [\"ADDRESS\"]"),
        });
    }
    for (upstream, key) in all.chain(routed) {
        findings.push(match ask(*upstream, ".", RecordType::NS, By::Udp).await {
            Ok(_) => Finding::ok("upstreams", format!("{upstream} answers")),
            Err(error) => Finding::warning(
                "upstreams",
                format!("{upstream} does not answer: {error}"),
                format!("see that it runs and can be reached, or change [dns] {key}"),
            ),
        });
    }
    findings
}

/// Where a wildcard address is asked.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType, by: By) -> io::Result<Message> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).map_err(io::Error::other)?;
    query.add_query(Query::query(name, kind));
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let exchange = async {
        match by {
            By::Udp => by_udp(server, &bytes).await,
            By::Tcp => by_tcp(server, &bytes).await,
        }
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")))??;
    Message::from_vec(&answer).map_err(io::Error::other)
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[..length].get(..2) == query.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = (query.len() as u16).to_be_bytes();
    stream.write_all(&[&length, query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;
    use crate::model::testing;
    use crate::names::NameServer;

    /// A configuration that asks nobody, on a port that is free.
    fn config() -> Config {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = Config {
            node: "node1".into(),
            ..Config::default()
        };
        config.dns.listen = vec![free.local_addr().unwrap()];
        config.dns.upstreams = Some(vec![]);
        config
    }

    #[tokio::test]
    async fn nothing_is_tested_where_no_names_are_served() {
        let findings = check(&Config::default(), None, true).await;
        assert_eq!((findings.len(), findings[0].state), (1, State::Ok));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_address_is_asked_by_both_protocols_for_a_name_of_the_mesh() {
        let config = config();
        let published = Published::wanted(&testing::web(vec![testing::backend("web.1", "node1")]));
        let server = NameServer::start(&config).unwrap();
        let show = |services: Vec<crate::model::Service>| {
            server.names().show(&names::tests::snapshot(1, services));
        };
        show(vec![names::tests::service("web", &["default"], vec![])]);
        let findings = check(&config, Some(&published), true).await;
        assert_eq!(findings[0].state, State::Ok, "{findings:?}");
        assert!(
            findings[0]
                .words
                .ends_with("portico.internal. and web.portico.internal. by UDP and TCP")
        );
        // Without an upstream names of others are refused, which few want, but this one says so.
        assert_eq!(findings[1].state, State::Ok);
        // An agent that lags.
        show(vec![]);
        let findings = check(&config, Some(&published), true).await;
        assert_eq!(findings[0].state, State::Failure);
        assert!(
            findings[0].words.contains("does not know web.portico.internal."),
            "{findings:?}"
        );
        assert!(findings[0].fix.as_deref().unwrap().contains("portico dns query"));
        // Somebody else's answers are no proof, and who has the address is asked before an agent runs.
        assert_eq!(free(config.dns.listen[0]).state, State::Failure);
        let mut other = config.dns.clone();
        other.domain = "mesh.example".into();
        let finding = served(&other, config.dns.listen[0], None).await;
        assert!(finding.words.contains("but not for mesh.example"), "{finding:?}");
    }

    #[tokio::test]
    async fn what_does_not_answer_is_a_failure_with_a_remedy() {
        let mut config = config();
        config.dns.upstreams = Some(config.dns.listen.clone());
        assert_eq!(check(&config, None, false).await[0].state, State::Ok);
        let findings = check(&config, None, true).await;
        config.dns.upstreams = Some(vec![]);
        config.dns.routes = [("corp.example".into(), config.dns.listen.clone())].into();
        let routed = upstreams(&config.dns).await;
        assert!(
            routed[1].fix.as_deref().unwrap().ends_with("[dns] routes"),
            "{routed:?}"
        );
        let states: Vec<_> = findings.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Failure, State::Warning], "{findings:?}");
    }
}
