//! Portico's name server with names that do not change, as a process of its own: the contender, and the upstream of all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use dns::{
    Config, Directory, Entry, Host, LimitConfig, Lookup, Port, Reverse, Server, Subject, Target, Transport,
    Zone,
};

#[derive(Args, Clone, Debug)]
pub struct Serve {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    domain: String,
    /// Its names are this and a number.
    #[arg(long)]
    letter: String,
    #[arg(long)]
    names: u32,
    /// So many of the names have an SRV record.
    #[arg(long, default_value_t = 0)]
    ports: u32,
    #[arg(long)]
    ttl: u32,
    #[arg(long)]
    upstream: Option<SocketAddr>,
    /// Counts what each client asks, as the agent does; with a limit that none of them reaches.
    #[arg(long)]
    counted: bool,
}

pub fn run(serve: &Serve) -> Result<()> {
    let mut config = Config {
        listen: vec![serve.listen],
        sockets: 1,
        domain: serve.domain.clone(),
        limit: serve.counted.then(|| LimitConfig {
            per_second: 100_000_000,
            burst: 100_000_000,
            ..LimitConfig::default()
        }),
        ..Config::default()
    };
    config.forward.upstreams.extend(serve.upstream);
    let names = Arc::new(Names::new(serve)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _server = Server::start(&config, names)?;
        std::future::pending::<Result<()>>().await
    })
}

/// The address of a name by its number.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number)
}

struct Names(HashMap<String, Arc<Entry>>);

impl Names {
    fn new(serve: &Serve) -> Result<Self> {
        let mut names = HashMap::new();
        for number in 0..serve.names {
            let name = format!("{}{number}", serve.letter);
            let mut entry = Entry {
                ttl: serve.ttl,
                v4: [address(number)].into(),
                ..Entry::default()
            };
            if number < serve.ports {
                let target = Target {
                    priority: 0,
                    weight: 0,
                    port: 80,
                    host: Host::new(Zone::Domain, &name)?,
                    addresses: [address(number).into()].into(),
                };
                entry.ports = [Port {
                    name: "http".into(),
                    protocol: Transport::Tcp,
                    targets: [target].into(),
                }]
                .into();
            }
            names.insert(name, Arc::new(entry));
        }
        Ok(Self(names))
    }
}

impl Directory for Names {
    fn lookup(&self, _client: IpAddr, subject: Subject<'_>) -> Lookup {
        let found = match subject {
            Subject::Name { name, scope: None } => self.0.get(name),
            _ => None,
        };
        found.map_or(Lookup::Unknown, |entry| Lookup::Found(Arc::clone(entry)))
    }

    fn reverse(&self, _client: IpAddr, _address: IpAddr) -> Reverse {
        Reverse::Unknown
    }

    fn serial(&self) -> u32 {
        1
    }
}
