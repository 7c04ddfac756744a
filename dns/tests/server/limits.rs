//! One client asks more than it should.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use dns::{Config, LimitConfig};
use hickory_server::proto::op::Message;
use hickory_server::proto::rr::RecordType;

use crate::fixture::{config, eventually, query_for, serve_with};
use crate::tools::{dig, have};

#[test]
fn beyond_the_limit_answers_are_not_larger_than_queries_and_fewer() {
    let server = serve_with(Config {
        limit: Some(LimitConfig {
            per_second: 1,
            burst: 10,
            clients: 100,
        }),
        ..config()
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let query = query_for("many.portico.internal.", RecordType::A)
        .to_vec()
        .unwrap();
    for _ in 0..200 {
        socket.send(&query).unwrap();
    }
    eventually("all counted", || server.count("received_udp") == 200);
    eventually("all judged", || {
        server.count("limited_dropped") + server.count("limited_truncated") + server.count("found") == 200
    });
    let (dropped, truncated) = (server.count("limited_dropped"), server.count("limited_truncated"));
    assert!(dropped + truncated >= 180, "{dropped} {truncated}");
    // Every second one, as long as those are not too many themselves.
    assert!((10..=20).contains(&truncated), "{truncated}");
    let mut buffer = [0; 4096];
    let mut small = 0;
    for _ in 0..200 - dropped {
        let length = socket.recv(&mut buffer).unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert!(answer.metadata.truncation);
        if answer.answers.is_empty() {
            assert_eq!(length, query.len());
            small += 1;
        }
    }
    assert_eq!(small, truncated);
    // Another client is answered as ever, and so is this one by TCP.
    let other = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    other.send_to(&query, server.address).unwrap();
    assert!(other.recv(&mut buffer).unwrap() > query.len());
    if have("beyond_the_limit", &["dig"]) {
        let seen = dig(&server, &["+time=1", "+tries=3", "many.portico.internal"]);
        assert_eq!(seen.answer.len(), 100, "{}", seen.text);
    }
}
