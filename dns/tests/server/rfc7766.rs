//! RFC 7766: DNS over TCP.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use dns::{Config, TcpConfig};
use hickory_server::proto::op::Message;
use hickory_server::proto::rr::RecordType;

use crate::fixture::{Served, config, eventually, query_for, serve, serve_with};
use crate::tools::{dig, dnspython, have, kdig};
use crate::upstream::{Upstream, a};

fn connect(server: &Served) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn framed(query: &Message) -> Vec<u8> {
    let bytes = query.to_vec().unwrap();
    [&(bytes.len() as u16).to_be_bytes(), &*bytes].concat()
}

fn read(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

#[test]
fn rfc7766_5_every_query_can_be_asked_by_tcp() {
    if !have("rfc7766_5", &["dig", "kdig", "/usr/bin/python3"]) {
        return;
    }
    let server = serve();
    assert_eq!(dig(&server, &["+tcp", "web"]).data(), ["10.254.0.1"]);
    assert_eq!(kdig(&server, &["+tcp", "web"]).data(), ["10.254.0.1"]);
    let seen = dnspython(
        server.address,
        "print(len(ask('many', by=dns.query.tcp).answer[0]))",
    );
    assert_eq!(seen, "100\n");
}

#[test]
fn rfc7766_6_2_1_a_connection_takes_many_queries() {
    if !have("rfc7766_6_2_1", &["kdig"]) {
        return;
    }
    let server = serve();
    let seen = kdig(
        &server,
        &[
            "+tcp",
            "+keepopen",
            "web",
            "www",
            "many",
            "nothing.portico.internal",
        ],
    );
    assert_eq!(seen.text.matches("status: NOERROR").count(), 3, "{}", seen.text);
    assert_eq!(server.count("tcp_connections"), 1);
}

#[test]
fn rfc7766_6_2_1_1_pipelined_queries_are_answered_as_they_are_ready() {
    let upstream = Upstream::start(|query| {
        thread::sleep(Duration::from_millis(200));
        Some(a(query, 60, 1))
    });
    let server = upstream.serve(config());
    let mut stream = connect(&server);
    let slow = query_for("slow.example.", RecordType::A);
    let quick: Vec<_> = (0..50)
        .map(|_| query_for("web.portico.internal.", RecordType::A))
        .collect();
    let all: Vec<u8> = std::iter::once(&slow).chain(&quick).flat_map(framed).collect();
    stream.write_all(&all).unwrap();
    let order: Vec<_> = (0..51).map(|_| read(&mut stream).metadata.id).collect();
    assert_eq!(order[50], slow.metadata.id, "what takes long holds nobody up");
    let quick: HashSet<_> = quick.iter().map(|query| query.metadata.id).collect();
    assert_eq!(order[..50].iter().copied().collect::<HashSet<_>>(), quick);
}

#[test]
fn rfc7766_6_2_2_connections_are_limited_per_client_and_in_all() {
    let server = serve_with(Config {
        tcp: TcpConfig {
            connections_per_client: 3,
            ..TcpConfig::default()
        },
        ..config()
    });
    let mut held: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut held {
        stream
            .write_all(&framed(&query_for("web.", RecordType::A)))
            .unwrap();
        read(stream);
    }
    let mut fourth = connect(&server);
    assert_eq!(fourth.read(&mut [0; 2]).unwrap_or(0), 0, "closed at once");
    assert_eq!(server.count("tcp_refused"), 1);
    held.pop();
    eventually("a place for another", || {
        let mut stream = connect(&server);
        let asked = stream.write_all(&framed(&query_for("web.", RecordType::A)));
        asked.is_ok() && stream.read_exact(&mut [0; 2]).is_ok()
    });
}

#[test]
fn rfc7766_6_2_3_idle_connections_are_closed() {
    let server = serve_with(Config {
        tcp: TcpConfig {
            idle: Duration::from_millis(200),
            ..TcpConfig::default()
        },
        ..config()
    });
    // Silent from the start, after a query, and in the middle of one.
    let query = framed(&query_for("web.", RecordType::A));
    for sent in [&[][..], &query, &query[..7]] {
        let mut stream = connect(&server);
        stream.write_all(sent).unwrap();
        let start = Instant::now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(150));
        assert_eq!(!rest.is_empty(), sent.len() == query.len());
    }
}

#[test]
fn rfc7766_7_many_clients_ask_at_once() {
    let server = serve();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut stream = connect(&server);
                for _ in 0..50 {
                    let query = query_for("tasks.web.", RecordType::A);
                    stream.write_all(&framed(&query)).unwrap();
                    let answer = read(&mut stream);
                    assert_eq!((answer.metadata.id, answer.answers.len()), (query.metadata.id, 3));
                }
            });
        }
    });
    assert_eq!(server.count("received_tcp"), 800);
}

#[test]
fn rfc7766_8_length_and_message_may_come_in_pieces() {
    let server = serve();
    let mut stream = connect(&server);
    stream.set_nodelay(true).unwrap();
    let query = query_for("web.portico.internal.", RecordType::A);
    for byte in framed(&query) {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read(&mut stream).metadata.id, query.metadata.id);
    // And the whole of a large answer comes in one message.
    stream
        .write_all(&framed(&query_for("many.", RecordType::A)))
        .unwrap();
    assert_eq!(read(&mut stream).answers.len(), 100);
}
