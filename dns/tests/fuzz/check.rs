//! What must be true of every answer, whatever was sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use dns::hickory::net::xfer::Protocol;
use dns::proto::op::{Message, MessageType};
use dns::{
    Config, Directory, Entry, Handler, Host, Lookup, Pointer, Port, Reverse, Subject, Target, Transport, Zone,
};
use futures_util::FutureExt;

/// Knows every name that begins with `w`, and all addresses of 10.0.0.0/8.
struct Known {
    entry: Arc<Entry>,
    pointer: Arc<Pointer>,
}

impl Directory for Known {
    fn lookup(&self, _client: IpAddr, subject: Subject<'_>) -> Lookup {
        let name = match subject {
            Subject::Name { name, .. } => name,
            Subject::Tasks { service, .. } | Subject::Kubernetes { service, .. } => service,
        };
        match name.as_bytes().first() {
            Some(b'w') => Lookup::Found(Arc::clone(&self.entry)),
            Some(b'h') => Lookup::Hidden,
            _ => Lookup::Unknown,
        }
    }

    fn reverse(&self, _client: IpAddr, address: IpAddr) -> Reverse {
        match address {
            IpAddr::V4(v4) if v4.octets()[0] == 10 => Reverse::Found(Arc::clone(&self.pointer)),
            _ => Reverse::Unknown,
        }
    }

    fn serial(&self) -> u32 {
        1
    }
}

static HANDLER: LazyLock<Handler> = LazyLock::new(|| {
    let host = Host::new(Zone::Domain, "web").expect("a name");
    let target = Target {
        priority: 1,
        weight: 2,
        port: 3,
        host: host.clone(),
        addresses: [Ipv4Addr::LOCALHOST.into()].into(),
    };
    let entry = Entry {
        ttl: 5,
        v4: (0..100).map(|last| Ipv4Addr::new(10, 0, 0, last)).collect(),
        v6: ["fdfe::1".parse().expect("an address")].into(),
        ports: [Port {
            name: "http".into(),
            protocol: Transport::Tcp,
            targets: vec![target; 50].into(),
        }]
        .into(),
    };
    let directory = Known {
        entry: Arc::new(entry),
        pointer: Arc::new(Pointer { host, ttl: 5 }),
    };
    let config = Config {
        listen: vec![([127, 0, 0, 1], 53).into()],
        cluster: Some("cluster.local".to_owned()),
        search: vec!["corp.example".to_owned()],
        limit: None,
        ..Config::default()
    };
    Handler::new(&config, Arc::new(directory)).expect("a good configuration")
});

/// Panics where an answer is wrong.
pub fn request(bytes: &[u8]) {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        // There are no upstreams to wait for.
        let answer = HANDLER
            .respond(bytes, SocketAddr::from(([192, 0, 2, 1], 5353)), protocol)
            .now_or_never();
        match answer.expect("an answer at once") {
            Some((answer, _)) => check(bytes, &answer, protocol),
            None => assert!(
                bytes.len() < 12 || bytes[2] & 0x80 != 0,
                "a query without an answer"
            ),
        }
    }
}

fn check(request: &[u8], answer: &[u8], protocol: Protocol) {
    let message = Message::from_vec(answer).expect("a well-formed answer");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(answer[..2], request[..2], "the id");
    assert_eq!(answer[2] & 0x79, request[2] & 0x79, "opcode and RD");
    let Ok(query) = Message::from_vec(request) else {
        assert!(answer.len() <= 1232);
        return;
    };
    if protocol == Protocol::Udp {
        let most = query
            .edns
            .as_ref()
            .map_or(512, |edns| edns.max_payload().clamp(512, 1232));
        assert!(answer.len() <= most.into(), "{} of {most}", answer.len());
    }
    assert!(
        message.edns.is_none() || query.edns.is_some(),
        "OPT for one who sent none"
    );
    if let ([asked], [answered]) = (&*query.queries, &*message.queries) {
        assert!(asked.name().eq_case(answered.name()), "case is kept");
        assert_eq!(asked.query_type(), answered.query_type());
    }
    for record in &message.answers {
        assert_eq!(
            &record.name,
            message.queries[0].name(),
            "records of what was asked for"
        );
    }
}
