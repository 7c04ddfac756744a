//! Serves the names of a TOML file: `cargo run -p dns --example serve -- dns/examples/names.toml`
//!
//! Shows how little a [`dns::Directory`] has to be, and is the program that the tests and measurements run.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dns::{
    Config, Directory, Entry, Host, Lookup, Pointer, Port, Reverse, Server, Subject, Target, Transport, Zone,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Vec<SocketAddr>,
    #[serde(default)]
    sockets: usize,
    domain: Option<String>,
    #[serde(default)]
    search: Vec<String>,
    #[serde(default)]
    upstreams: Vec<SocketAddr>,
    names: HashMap<String, Record>,
    /// Names that do not matter: `n0` to `n9999`, to have many.
    #[serde(default)]
    filler: usize,
    #[serde(default)]
    unlimited: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    addresses: Vec<IpAddr>,
    #[serde(default)]
    ports: HashMap<String, u16>,
    #[serde(default = "ttl")]
    ttl: u32,
}

fn ttl() -> u32 {
    5
}

struct Names {
    forward: HashMap<String, Arc<Entry>>,
    reverse: HashMap<IpAddr, Arc<Pointer>>,
}

impl Names {
    fn new(file: &File) -> Result<Self> {
        let mut forward = HashMap::new();
        let mut reverse = HashMap::new();
        for (name, record) in &file.names {
            let host = Host::new(Zone::Domain, name).with_context(|| format!("names.{name:?}"))?;
            forward.insert(name.to_lowercase(), Arc::new(entry(record, &host)));
            for address in &record.addresses {
                let host = host.clone();
                reverse.insert(
                    *address,
                    Arc::new(Pointer {
                        host,
                        ttl: record.ttl,
                    }),
                );
            }
        }
        for number in 0..file.filler {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number as u32);
            let entry = Entry {
                ttl: 5,
                v4: [address].into(),
                ..Entry::default()
            };
            forward.insert(format!("n{number}"), Arc::new(entry));
        }
        Ok(Self { forward, reverse })
    }
}

fn entry(record: &Record, host: &Host) -> Entry {
    let v4 = record.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = record.addresses.iter().filter_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    let port = |(name, port): (&String, &u16)| Port {
        name: name.as_str().into(),
        protocol: Transport::Tcp,
        targets: [Target {
            priority: 0,
            weight: 0,
            port: *port,
            host: host.clone(),
            addresses: record.addresses.clone().into(),
        }]
        .into(),
    };
    Entry {
        ttl: record.ttl,
        v4: v4.collect(),
        v6: v6.collect(),
        ports: record.ports.iter().map(port).collect(),
    }
}

impl Directory for Names {
    fn lookup(&self, _client: IpAddr, subject: Subject<'_>) -> Lookup {
        let found = match subject {
            Subject::Name { name, scope: None } => self.forward.get(name),
            _ => None,
        };
        found.map_or(Lookup::Unknown, |entry| Lookup::Found(Arc::clone(entry)))
    }

    fn reverse(&self, _client: IpAddr, address: IpAddr) -> Reverse {
        let found = self.reverse.get(&address);
        found.map_or(Reverse::Unknown, |pointer| Reverse::Found(Arc::clone(pointer)))
    }

    fn serial(&self) -> u32 {
        1
    }
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let path = std::env::args().nth(1).context("usage: serve FILE")?;
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let file: File = toml::from_str(&text).with_context(|| format!("cannot read {path}"))?;
    let mut config = Config {
        listen: file.listen.clone(),
        sockets: file.sockets,
        search: file.search.clone(),
        ..Config::default()
    };
    if let Some(domain) = &file.domain {
        config.domain.clone_from(domain);
    }
    if file.unlimited {
        config.limit = None;
    }
    config.forward.upstreams.clone_from(&file.upstreams);
    let names = Arc::new(Names::new(&file)?);
    // A thread per socket: more would only take queries from one another.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if file.sockets > 0 {
        runtime.worker_threads(file.sockets);
    }
    runtime.enable_all().build()?.block_on(async {
        let server = Server::start(&config, names)?;
        println!("listening on {:?}", server.addresses().collect::<Vec<_>>());
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
}
