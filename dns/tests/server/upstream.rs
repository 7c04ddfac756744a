//! Servers to be asked, good and bad.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use dns::Config;
use hickory_server::proto::op::{Message, MessageType, ResponseCode};
use hickory_server::proto::rr::rdata::{A, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use crate::fixture::{Served, serve_with};

/// Answers by UDP and TCP until the process ends; probes of its health always, and they are not counted.
pub struct Upstream {
    pub address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Upstream {
    /// What is not answered is `None`.
    pub fn start(answer: impl Fn(&Message) -> Option<Message> + Send + Sync + Clone + 'static) -> Self {
        Self::start_raw(move |query, _udp| answer(query).map(|answer| vec![answer.to_vec().unwrap()]))
    }

    /// All that is sent, as bytes.
    pub fn start_raw(
        answer: impl Fn(&Message, bool) -> Option<Vec<Vec<u8>>> + Send + Sync + Clone + 'static,
    ) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let count = {
            let asked = Arc::clone(&asked);
            move |query: &Message| {
                let name = query.queries[0].name().to_lowercase().to_string();
                *asked.lock().unwrap().entry(name).or_default() += 1;
            }
        };
        let respond = move |query: &Message, udp: bool| {
            if query.queries[0].name().to_string().contains("loop-probe") {
                return Some(vec![nxdomain(query, 1, 1).to_vec().unwrap()]);
            }
            count(query);
            answer(query, udp)
        };
        let by_tcp = respond.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer) {
                let Ok(query) = Message::from_vec(&buffer[..length]) else {
                    continue;
                };
                for answer in respond(&query, true).into_iter().flatten() {
                    let _ = udp.send_to(&answer, client);
                }
            }
        });
        thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                let Ok(()) = stream.read_exact(&mut length) else {
                    continue;
                };
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                let Ok(()) = stream.read_exact(&mut query) else {
                    continue;
                };
                let Ok(query) = Message::from_vec(&query) else {
                    continue;
                };
                for answer in by_tcp(&query, false).into_iter().flatten() {
                    let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes(), &*answer].concat());
                }
            }
        });
        Self { address, asked }
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    pub fn all_asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().keys().cloned().collect()
    }

    /// A server that asks this upstream.
    pub fn serve(&self, mut config: Config) -> Served {
        config.forward.upstreams = vec![self.address];
        serve_with(config)
    }
}

fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// An address where nobody answers: packets get lost there.
pub fn silent() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Bound for as long as the process runs, never read.
    std::mem::forget(socket);
    address
}

pub fn response(query: &Message) -> Message {
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    answer.additionals.clear();
    answer
}

/// Every name has this one address.
pub fn a(query: &Message, ttl: u32, last: u8) -> Message {
    let mut answer = response(query);
    let name = query.queries[0].name().clone();
    if query.queries[0].query_type() == RecordType::A {
        answer.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, last))));
    }
    answer
}

pub fn nxdomain(query: &Message, ttl: u32, minimum: u32) -> Message {
    let mut answer = response(query);
    answer.metadata.response_code = ResponseCode::NXDomain;
    let name = |text| Name::from_ascii(text).unwrap();
    let rdata = SOA::new(name("ns.example."), name("h.example."), 1, 1, 1, 1, minimum);
    answer.add_authority(Record::from_rdata(name("example."), ttl, RData::SOA(rdata)));
    answer
}
