//! The file as it is written, with the place of everything that can be wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_saphyr::Spanned;

use super::addresses::Addresses;
use super::fault::Fault;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default = "Entries::none")]
    pub nodes: Entries<Node>,
    pub services: Option<Entries<Service>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    #[serde(default)]
    pub ports: Vec<Spanned<String>>,
    #[serde(default)]
    pub expose: Vec<Spanned<String>>,
    pub stack: Option<Spanned<String>>,
    pub networks: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub aliases: Vec<Spanned<String>>,
    #[serde(default)]
    pub endpoint: Endpoint,
    pub ttl: Option<Spanned<String>>,
    #[serde(default)]
    pub vips: Vec<Spanned<String>>,
    #[serde(default)]
    pub assigned: Vec<Spanned<String>>,
    pub algorithm: Option<Spanned<Algorithm>>,
    #[serde(default)]
    pub affinity: Affinity,
    pub slots: Option<Spanned<u64>>,
    pub health: Option<Spanned<Health>>,
    pub plane: Option<Spanned<Plane>>,
    pub proxy: Option<Proxy>,
    #[serde(default)]
    pub backends: Vec<Spanned<Backend>>,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    #[default]
    Vip,
    Dnsrr,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Maglev's promise is kept by the same tables.
    #[serde(alias = "maglev")]
    Hash,
    RoundRobin,
    LeastConnections,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    #[default]
    None,
    ClientIp,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub http: Option<Spanned<String>>,
    pub tcp: Option<bool>,
    pub port: Option<Spanned<u64>>,
    pub interval: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub failures: Option<Spanned<u64>>,
    pub successes: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    Auto,
    Ebpf,
    Proxy,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    #[serde(default)]
    pub send: Sent,
    #[serde(default)]
    pub accept: Vec<Spanned<String>>,
    #[serde(default)]
    pub transparent: bool,
    pub connect_timeout: Option<Spanned<String>>,
    pub retries: Option<Spanned<u64>>,
    pub idle: Option<Spanned<String>>,
    pub drain: Option<Spanned<String>>,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sent {
    #[default]
    None,
    V1,
    V2,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    pub node: Option<Spanned<String>>,
    pub address: Addresses,
    pub task: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub aliases: Vec<Spanned<String>>,
    pub port: Option<Spanned<u64>>,
    pub weight: Option<Spanned<u64>>,
    #[serde(default)]
    pub state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Active,
    Draining,
}

/// `NAME: ADDRESS` or `NAME: { address, state }`.
#[derive(Debug)]
pub struct Node {
    pub address: String,
    pub state: State,
}

/// A map in the order of the file, with the place of each key.
#[derive(Debug)]
pub struct Entries<T>(pub Vec<(Spanned<String>, T)>);

/// Reads the text; says what the parser stumbled over.
pub fn read(text: &str) -> Result<File, Fault> {
    if text
        .lines()
        .all(|line| matches!(line.trim_start().chars().next(), None | Some('#')))
    {
        return Err(Fault::whole(
            "the file is empty",
            "write `services: {}` to mean none",
        ));
    }
    // The defaults guard against hostile YAML; a file of 10,000 services of 10 backends is a large honest one.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 40_000_000, max_nodes: 20_000_000 },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Fault::from(&error))
}

impl<T> Entries<T> {
    pub fn none() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("names, each with its description")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        input.deserialize_map(Map(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            address: String,
            #[serde(default)]
            state: State,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an address, or { address, state }")
            }

            fn visit_str<E>(self, address: &str) -> Result<Node, E> {
                Ok(Node {
                    address: address.to_owned(),
                    state: State::Active,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
                let Full { address, state } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Node { address, state })
            }
        }

        input.deserialize_any(Either)
    }
}
