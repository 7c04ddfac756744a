//! RFC 5452: answers that nobody else could have made.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_server::proto::op::{Message, Query};
use hickory_server::proto::rr::{Name, RecordType};

use crate::fixture::{config, query_for, serve_with};
use crate::upstream::{Upstream, a, nxdomain};

/// Lies first, then tells the truth.
fn after(lie: impl Fn(Message) -> Message + Send + Sync + Clone + 'static) -> Upstream {
    Upstream::start_raw(move |query, _| {
        let false_one = lie(a(query, 60, 66));
        Some(vec![
            false_one.to_vec().unwrap(),
            a(query, 60, 1).to_vec().unwrap(),
        ])
    })
}

#[test]
fn rfc5452_9_1_answers_with_a_wrong_id_or_question_are_not_believed() {
    let wrong_id = after(|mut answer| {
        answer.metadata.id = answer.metadata.id.wrapping_add(1);
        answer
    });
    let wrong_name = after(|mut answer| {
        answer.queries[0] = Query::query(Name::from_ascii("evil.example.").unwrap(), RecordType::A);
        answer
    });
    let wrong_type = after(|mut answer| {
        answer.queries[0].set_query_type(RecordType::AAAA);
        answer
    });
    let no_answer = after(|mut answer| {
        answer.metadata.message_type = hickory_server::proto::op::MessageType::Query;
        answer
    });
    for upstream in [wrong_id, wrong_name, wrong_type, no_answer] {
        let server = upstream.serve(config());
        let answer = server.ask(&query_for("www.example.", RecordType::A));
        assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1");
        assert_eq!(server.count("upstream_nonsense"), 1);
    }
}

#[test]
fn rfc5452_9_1_answers_from_another_address_are_not_believed() {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.forward.upstreams = vec![upstream.local_addr().unwrap()];
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = upstream.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..length]) else {
                continue;
            };
            let _ = other.send_to(&a(&query, 60, 66).to_vec().unwrap(), client);
            let _ = upstream.send_to(&a(&query, 60, 1).to_vec().unwrap(), client);
        }
    });
    let server = serve_with(config);
    let answer = server.ask(&query_for("www.example.", RecordType::A));
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1");
}

#[test]
fn rfc5452_9_2_ids_and_ports_are_not_to_be_guessed() {
    let seen = Arc::new(Mutex::new(Vec::<(u16, SocketAddr)>::new()));
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = config();
    config.forward.upstreams = vec![upstream.local_addr().unwrap()];
    let record = Arc::clone(&seen);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = upstream.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..length]) else {
                continue;
            };
            record.lock().unwrap().push((query.metadata.id, client));
            let _ = upstream.send_to(&nxdomain(&query, 60, 60).to_vec().unwrap(), client);
        }
    });
    let server = serve_with(config);
    for number in 0..100 {
        server.ask(&query_for(&format!("n{number}.example."), RecordType::A));
    }
    let seen = seen.lock().unwrap();
    let ids: HashSet<_> = seen.iter().map(|(id, _)| id).collect();
    let ports: HashSet<_> = seen.iter().map(|(_, client)| client.port()).collect();
    assert!(ids.len() > 95, "{}", ids.len());
    assert!(ports.len() > 80, "{}", ports.len());
    let steps = seen
        .windows(2)
        .filter(|pair| pair[1].1.port().wrapping_sub(pair[0].1.port()) <= 2)
        .count();
    assert!(steps < 20, "ports in a row: {steps}");
}

#[test]
fn rfc5452_9_3_mixed_case_must_come_back() {
    let upstream = Upstream::start_raw(|query, _| {
        let mut answer = a(query, 60, 66);
        let lower = answer.queries[0].name().to_lowercase();
        let kept = lower.eq_case(query.queries[0].name());
        answer.queries[0].set_name(lower);
        // A name of 40 letters that happens to have no capital: once in 10^12 times.
        assert!(!kept);
        Some(vec![answer.to_vec().unwrap(), a(query, 60, 1).to_vec().unwrap()])
    });
    let mut config = config();
    config.forward.mix_case = true;
    let server = upstream.serve(config);
    let answer = server.ask(&query_for(
        "abcdefghijklmnopqrstuvwxyz.abcdefghijklmn.example.",
        RecordType::A,
    ));
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1");
    assert_eq!(
        answer.queries[0].name().to_string(),
        "abcdefghijklmnopqrstuvwxyz.abcdefghijklmn.example."
    );
}
