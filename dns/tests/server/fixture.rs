//! A small mesh, and a server for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dns::{
    Config, Directory, Entry, Host, Lookup, Pointer, Port, Reverse, Server, Statistics, Subject, Target,
    Transport, Zone,
};
use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_server::proto::rr::{Name, RecordType};
use tokio::runtime::Runtime;

/// Only clients with this address see the service `hidden`.
pub const INSIDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// Keys are names; `name@scope`; `tasks:name`; `host/service/namespace`.
pub struct Mesh {
    names: Mutex<HashMap<String, Arc<Entry>>>,
    serial: AtomicU32,
    pub ready: AtomicBool,
    /// Whether everybody is.
    pub new: AtomicBool,
}

pub fn entry(v4: &[[u8; 4]], v6: &[&str]) -> Entry {
    Entry {
        ttl: 5,
        v4: v4.iter().map(|octets| Ipv4Addr::from(*octets)).collect(),
        v6: v6.iter().map(|text| text.parse().unwrap()).collect(),
        ports: Box::default(),
    }
}

fn port(name: &str, targets: &[(Zone, &str, u16, IpAddr)]) -> Port {
    let target = |(zone, host, port, address): &(Zone, &str, u16, IpAddr)| Target {
        priority: 0,
        weight: 10,
        port: *port,
        host: Host::new(*zone, host).unwrap(),
        addresses: [*address].into(),
    };
    Port {
        name: name.into(),
        protocol: Transport::Tcp,
        targets: targets.iter().map(target).collect(),
    }
}

impl Default for Mesh {
    fn default() -> Self {
        let mesh = Self {
            names: Mutex::default(),
            serial: AtomicU32::new(41),
            ready: AtomicBool::new(true),
            new: AtomicBool::new(false),
        };
        let vip = IpAddr::from([10, 254, 0, 1]);
        let web = Entry {
            ports: [port("http", &[(Zone::Domain, "web", 80, vip)])].into(),
            ..entry(&[[10, 254, 0, 1]], &["fdfe:706f:7274::1"])
        };
        let tasks = entry(&[[172, 18, 0, 2], [172, 18, 0, 3], [172, 18, 0, 4]], &[]);
        let db = [1, 2].map(|last| {
            (
                Zone::Domain,
                format!("db.{last}"),
                5432,
                IpAddr::from([172, 18, 1, last]),
            )
        });
        let db: Vec<_> = db
            .iter()
            .map(|(zone, host, port, address)| (*zone, &**host, *port, *address))
            .collect();
        let headless = Entry {
            ports: [port("pg", &db)].into(),
            ..entry(&[[172, 18, 1, 1], [172, 18, 1, 2]], &[])
        };
        let kubernetes = Entry {
            ports: [port(
                "https",
                &[(Zone::Cluster, "web.shop.svc", 443, [10, 96, 0, 7].into())],
            )]
            .into(),
            ..entry(&[[10, 96, 0, 7]], &[])
        };
        let many: Vec<_> = (0..100).map(|last| [172, 19, 0, last]).collect();
        for (name, entry) in [
            ("web", web.clone()),
            ("www", web.clone()),
            ("web@front", web.clone()),
            ("web@shop", web),
            ("tasks:web", tasks),
            ("web.1", entry(&[[172, 18, 0, 2]], &[])),
            ("db", headless),
            ("db.1", entry(&[[172, 18, 1, 1]], &[])),
            ("many", entry(&many, &[])),
            ("gone", entry(&[], &[])),
            ("/web/shop", kubernetes),
            ("db-0/db/shop", entry(&[[10, 96, 1, 1]], &[])),
        ] {
            mesh.set(name, entry);
        }
        mesh
    }
}

impl Mesh {
    pub fn set(&self, name: &str, entry: Entry) {
        self.names
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(entry));
        self.serial.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove(&self, name: &str) {
        self.names.lock().unwrap().remove(name);
        self.serial.fetch_add(1, Ordering::Relaxed);
    }
}

impl Directory for Mesh {
    fn lookup(&self, client: IpAddr, subject: Subject<'_>) -> Lookup {
        let key = match subject {
            Subject::Name {
                name: "hidden",
                scope: None,
            } => {
                return match client {
                    INSIDER => Lookup::Found(Arc::new(entry(&[[10, 254, 0, 99]], &[]))),
                    _ => Lookup::Hidden,
                };
            }
            // A service that nobody here sees, called as a network that everybody is on.
            Subject::Name {
                name: "lab",
                scope: None,
            } => return Lookup::Hidden,
            Subject::Name { name, scope: None } => name.to_owned(),
            Subject::Name {
                name,
                scope: Some(scope),
            } => format!("{name}@{scope}"),
            Subject::Tasks { service, scope: None } => format!("tasks:{service}"),
            Subject::Tasks {
                service,
                scope: Some(scope),
            } => format!("tasks:{service}@{scope}"),
            Subject::Kubernetes {
                host,
                service,
                namespace,
            } => format!("{}/{service}/{namespace}", host.unwrap_or_default()),
        };
        let found = self.names.lock().unwrap().get(&key).cloned();
        found.map_or(Lookup::Unknown, Lookup::Found)
    }

    fn reverse(&self, _client: IpAddr, address: IpAddr) -> Reverse {
        let name = match address {
            IpAddr::V4(v4) if v4.octets() == [10, 254, 0, 1] => "web",
            IpAddr::V6(v6) if v6.to_string() == "fdfe:706f:7274::1" => "web",
            IpAddr::V4(v4) if v4.octets()[..2] == [10, 254] => return Reverse::Hidden,
            _ => return Reverse::Unknown,
        };
        let host = Host::new(Zone::Domain, name).unwrap();
        Reverse::Found(Arc::new(Pointer { host, ttl: 5 }))
    }

    fn encloses(&self, _client: IpAddr, zone: Zone, name: &str) -> bool {
        matches!(
            (zone, name),
            (Zone::Domain, "front" | "shop" | "lab") | (Zone::Cluster, "shop.svc")
        )
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn is_new(&self, _client: IpAddr) -> bool {
        self.new.load(Ordering::Relaxed)
    }

    fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }
}

/// A running server of its own runtime, stopped when dropped.
pub struct Served {
    pub mesh: Arc<Mesh>,
    pub address: SocketAddr,
    pub statistics: Arc<Statistics>,
    // In the order they are dropped.
    _server: Server,
    _runtime: Runtime,
}

pub fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        sockets: 2,
        cluster: Some("cluster.local".into()),
        search: vec!["corp.example".into()],
        ..Config::default()
    }
}

pub fn serve() -> Served {
    serve_with(config())
}

pub fn serve_with(config: Config) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mesh = Arc::new(Mesh::default());
    let server = {
        let _guard = runtime.enter();
        Server::start(&config, Arc::clone(&mesh) as Arc<dyn Directory>).unwrap()
    };
    let address = server.addresses().next().unwrap();
    Served {
        mesh,
        address,
        statistics: server.statistics(),
        _server: server,
        _runtime: runtime,
    }
}

impl Served {
    pub fn count(&self, name: &str) -> u64 {
        self.statistics
            .counters()
            .find(|(counter, _)| *counter == name)
            .unwrap()
            .1
    }

    /// Sends bytes as they are and returns what comes back, if anything does before a following good query is answered.
    pub fn raw(&self, query: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(self.address).unwrap();
        socket.send(query).unwrap();
        let fence = query_for("fence.portico.internal.", RecordType::A);
        socket.send(&fence.to_vec().unwrap()).unwrap();
        let mut buffer = [0; 65536];
        let length = socket.recv(&mut buffer).unwrap();
        let answer = buffer[..length].to_vec();
        (answer[..2] != fence.metadata.id.to_be_bytes()).then_some(answer)
    }

    /// An answer, however long it takes.
    pub fn ask(&self, query: &Message) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(&query.to_vec().unwrap(), self.address).unwrap();
        let mut buffer = [0; 65536];
        let length = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }
}

pub fn query_for(name: &str, kind: RecordType) -> Message {
    // The fence and the query must not have the same id.
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed) as u16;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.set_edns(edns);
    message
}

/// Waits for a condition, with a limit that only a broken server reaches.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
