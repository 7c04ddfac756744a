//! `[dns]`: the name server.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::bounds::within;

/// `[dns]`. Nothing listens unless `listen` says where.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "Raw")]
pub struct Dns {
    /// Where names are asked for, by UDP and TCP. The addresses need not be there yet.
    pub listen: Vec<SocketAddr>,
    /// The mesh's own zone, lower-case, without dots at its ends.
    pub domain: String,
    /// Who is asked for all other names; `None`: those of the node's own resolver configuration.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Domains that clients have in their search list: names of the mesh are answered below them too.
    pub search: Vec<String>,
    /// The zone of Kubernetes names.
    pub cluster_domain: Option<String>,
    /// Who is asked for names in and below a domain, instead of `upstreams`.
    pub routes: BTreeMap<String, Vec<SocketAddr>>,
    /// Answers by UDP that one client gets each second; 0: no limit.
    pub rate: u32,
    /// Whether what containers send to their resolvers is led here.
    pub intercept: bool,
}

/// As it is written; the keys are those of [`Dns`].
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    listen: Vec<Server>,
    domain: String,
    upstreams: Option<Vec<Server>>,
    search: Vec<String>,
    cluster_domain: Option<String>,
    routes: BTreeMap<String, Vec<Server>>,
    #[serde(deserialize_with = "within::<_, 0, 1_000_000>")]
    rate: u32,
    intercept: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            domain: "portico.internal".into(),
            upstreams: None,
            search: Vec::new(),
            cluster_domain: None,
            routes: BTreeMap::new(),
            rate: 5000,
            intercept: false,
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self::of(Raw::default())
    }
}

impl Dns {
    fn of(raw: Raw) -> Self {
        let addresses = |servers: Vec<Server>| servers.into_iter().map(|server| server.0).collect();
        let name = |name: String| name.trim_matches('.').to_ascii_lowercase();
        Self {
            listen: addresses(raw.listen),
            domain: name(raw.domain),
            upstreams: raw.upstreams.map(addresses),
            search: raw.search.into_iter().map(name).collect(),
            cluster_domain: raw.cluster_domain.map(name),
            routes: raw
                .routes
                .into_iter()
                .map(|(domain, servers)| (name(domain), addresses(servers)))
                .collect(),
            rate: raw.rate,
            intercept: raw.intercept,
        }
    }
}

/// What is wrong with a table whose values are good each by itself.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("dns.{}", in_our_words(.0))]
    Server(#[from] ::dns::ConfigError),
    #[error(
        "dns.intercept = true leads containers to the first address of dns.listen that is neither loopback nor unspecified, and there is none"
    )]
    InterceptsNowhere,
    #[error("dns.listen: {0} twice")]
    ListedTwice(SocketAddr),
    #[error(
        "dns.routes: a domain is there twice; great and small letters are the same, and so is a dot at the end"
    )]
    RoutedTwice,
    #[error("dns.listen: {0} is no address to listen on (it is {1})")]
    Unfit(SocketAddr, &'static str),
}

/// The library's keys are called otherwise here.
fn in_our_words(error: &::dns::ConfigError) -> String {
    let words = [
        ("forward.upstreams", "upstreams"),
        ("forward.domains", "routes"),
        ("cluster =", "cluster_domain ="),
    ];
    let replace = |text: String, (theirs, ours): (&str, &str)| text.replace(theirs, ours);
    words.into_iter().fold(error.to_string(), replace)
}

impl TryFrom<Raw> for Dns {
    type Error = Fault;

    fn try_from(raw: Raw) -> Result<Self, Fault> {
        let routes = raw.routes.len();
        let dns = Self::of(raw);
        if dns.routes.len() < routes {
            return Err(Fault::RoutedTwice);
        }
        for (index, address) in dns.listen.iter().enumerate() {
            if dns.listen[..index].contains(address) {
                return Err(Fault::ListedTwice(*address));
            }
            if address.ip().is_multicast() {
                return Err(Fault::Unfit(*address, "a multicast address"));
            }
        }
        if dns.intercept && dns.reachable().next().is_none() {
            return Err(Fault::InterceptsNowhere);
        }
        dns.server(dns.upstreams.as_deref().unwrap_or_default())
            .validate()?;
        Ok(dns)
    }
}

impl Dns {
    /// Where containers can be led to: in theirs, loopback is another's, and so is an address that stands for all.
    pub fn reachable(&self) -> impl Iterator<Item = SocketAddr> {
        let listen = self.listen.iter().copied();
        listen.filter(|address| !address.ip().is_loopback() && !address.ip().is_unspecified())
    }

    /// What the name server is told, with these upstreams for names without a route.
    pub fn server(&self, upstreams: &[SocketAddr]) -> ::dns::Config {
        let routes = self.routes.iter();
        ::dns::Config {
            listen: self.listen.clone(),
            domain: self.domain.clone(),
            cluster: self.cluster_domain.clone(),
            search: self.search.clone(),
            limit: (self.rate > 0).then(|| ::dns::LimitConfig {
                per_second: self.rate,
                burst: self.rate.saturating_mul(2),
                ..::dns::LimitConfig::default()
            }),
            forward: ::dns::ForwardConfig {
                upstreams: upstreams.to_vec(),
                domains: routes
                    .map(|(domain, servers)| (domain.clone(), servers.clone()))
                    .collect(),
                ..::dns::ForwardConfig::default()
            },
            ..::dns::Config::default()
        }
    }
}

/// `ADDRESS` or `ADDRESS:PORT`; port 53 where none is given.
struct Server(SocketAddr);

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Server;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an address, as \"192.0.2.53\", \"192.0.2.53:5353\" or \"[2001:db8::53]:5353\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Server, E> {
                let address = text.parse::<IpAddr>().map(|address| (address, 53).into());
                address
                    .or_else(|_| text.parse())
                    .ok()
                    .filter(|address: &SocketAddr| address.port() != 0)
                    .map(Server)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        input.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use crate::config::{Config, ConfigError};

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("portico.toml"), &format!("node = 'a'\n[dns]\n{text}"))
    }

    #[test]
    fn nothing_listens_unless_it_is_told_where() {
        let dns = parse("").unwrap().dns;
        assert_eq!(dns, super::Dns::default());
        assert_eq!(dns.listen, []);
        assert_eq!(dns.domain, "portico.internal");
        assert_eq!((dns.upstreams, dns.rate), (None, 5000));
    }

    #[test]
    fn addresses_have_port_53_unless_they_say_otherwise() {
        let text = "listen = ['169.254.20.10', '[fe80::1]:5353', '2001:db8::1']\nupstreams = []\n\
                    routes.'Corp.Example.' = ['192.0.2.54']";
        let dns = parse(text).unwrap().dns;
        let listen: Vec<_> = dns.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["169.254.20.10:53", "[fe80::1]:5353", "[2001:db8::1]:53"]);
        assert_eq!(dns.upstreams, Some(vec![]));
        assert_eq!(dns.routes["corp.example"], ["192.0.2.54:53".parse().unwrap()]);
    }

    #[rstest]
    #[case(
        "listen = ['eth0']",
        "portico.toml:3:11: invalid value: string \"eth0\", expected an address"
    )]
    #[case("listen = ['192.0.2.1:0']", "portico.toml:3:11: ")]
    #[case("rate = -1", "portico.toml:3:8: -1 is not within 0 to 1000000")]
    #[case(
        "listen = ['192.0.2.1', '192.0.2.1:53']",
        "portico.toml:2:1: dns.listen: 192.0.2.1:53 twice"
    )]
    #[case(
        "listen = ['224.0.0.251']",
        "portico.toml:2:1: dns.listen: 224.0.0.251:53 is no address"
    )]
    #[case(
        "domain = 'a..b'",
        "portico.toml:2:1: dns.domain = \"a..b\": not a domain name"
    )]
    #[case(
        "cluster_domain = 'k.portico.internal'",
        "portico.toml:2:1: dns.cluster_domain = "
    )]
    #[case("intercept = true", "portico.toml:2:1: dns.intercept = true leads containers")]
    #[case(
        "intercept = true\nlisten = ['127.0.0.1', '0.0.0.0', '[::1]:53', '::']",
        "portico.toml:2:1: dns.intercept = true leads containers"
    )]
    #[case(
        "listen = ['192.0.2.1']\nupstreams = ['192.0.2.1']",
        "portico.toml:2:1: dns.upstreams: "
    )]
    #[case("routes.'corp.example' = []", "portico.toml:2:1: dns.routes: ")]
    #[case(
        "routes.'corp.example' = ['192.0.2.1']\nroutes.'Corp.Example.' = ['192.0.2.2']",
        "portico.toml:2:1: dns.routes: a domain is there twice"
    )]
    #[case(
        "cluster_domain = 'cluster.local'\nroutes.'cluster.local' = ['10.96.0.10']",
        "portico.toml:2:1: dns.routes: \"cluster.local\" lies within the zone"
    )]
    #[case("upstreem = []", "portico.toml:3:1: unknown key `upstreem`")]
    fn a_mistake_is_named_with_its_place(#[case] text: &str, #[case] start: &str) {
        let complaint = parse(text).unwrap_err().to_string();
        assert!(complaint.starts_with(start), "{complaint}");
    }
}
