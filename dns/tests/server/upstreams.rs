//! Upstreams: good, slow, dead, lying, and how they are chosen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns::{Config, ConfigError, StartError};
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RecordType;

use crate::fixture::{config, eventually, query_for, serve_with, with_edns};
use crate::tools::{dig, have};
use crate::upstream::{Upstream, a, response, silent};

fn good() -> Upstream {
    Upstream::start(|query| Some(a(query, 60, 1)))
}

fn asking(upstreams: &[std::net::SocketAddr]) -> Config {
    let mut config = config();
    config.forward.upstreams = upstreams.to_vec();
    config
}

fn data(answer: &Message) -> String {
    answer
        .answers
        .first()
        .map(|record| record.data.to_string())
        .unwrap_or_default()
}

#[test]
fn an_answer_is_passed_on_and_remembered() {
    if !have("an_answer_is_passed_on_and_remembered", &["dig"]) {
        return;
    }
    let upstream = good();
    let server = upstream.serve(config());
    for _ in 0..3 {
        let seen = dig(&server, &["wWw.eXample.com"]);
        assert_eq!(
            (seen.status.as_str(), seen.data()),
            ("NOERROR", vec!["192.0.2.1"]),
            "{}",
            seen.text
        );
        assert!(seen.has("ra") && !seen.has("aa"), "{}", seen.text);
        assert!(seen.answer[0].starts_with("wWw.eXample.com."), "{}", seen.text);
    }
    assert_eq!(upstream.asked("www.example.com."), 1);
    assert_eq!(server.count("cached"), 2);
    // Without RD, nobody finds out what others have asked for.
    assert_eq!(dig(&server, &["+norecurse", "www.example.com"]).status, "REFUSED");
    // Other types, and other wishes about DNSSEC, are other questions.
    dig(&server, &["+dnssec", "www.example.com"]);
    dig(&server, &["+cdflag", "www.example.com"]);
    assert_eq!(upstream.asked("www.example.com."), 3);
}

#[test]
fn a_dead_upstream_costs_little_and_soon_nothing() {
    let upstream = good();
    let refused = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let server = serve_with(asking(&[silent(), refused, upstream.address]));
    for number in 0..20 {
        let start = Instant::now();
        let answer = server.ask(&query_for(&format!("n{number}.example."), RecordType::A));
        assert_eq!(data(&answer), "192.0.2.1");
        assert!(
            start.elapsed() < Duration::from_millis(1400),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn the_fastest_answer_wins() {
    let slow = Upstream::start(|query| {
        thread::sleep(Duration::from_millis(700));
        Some(a(query, 60, 7))
    });
    let fast = good();
    let server = serve_with(asking(&[slow.address, fast.address]));
    for number in 0..5 {
        let answer = server.ask(&query_for(&format!("n{number}.example."), RecordType::A));
        assert_eq!(data(&answer), "192.0.2.1");
    }
    assert!(fast.asked("n4.example.") == 1 && slow.asked("n4.example.") == 0);
}

#[test]
fn an_upstream_that_will_not_say_is_passed_over() {
    let unwilling = |code| {
        Upstream::start(move |query| {
            let mut answer = response(query);
            answer.metadata.response_code = code;
            Some(answer)
        })
    };
    let (broken, refusing, fine) = (
        unwilling(ResponseCode::ServFail),
        unwilling(ResponseCode::Refused),
        good(),
    );
    let server = serve_with(asking(&[broken.address, refusing.address, fine.address]));
    for number in 0..5 {
        assert_eq!(
            data(&server.ask(&query_for(&format!("n{number}.example."), RecordType::A))),
            "192.0.2.1"
        );
    }
    // If no other says anything, what it says is passed on.
    let server = serve_with(asking(&[refusing.address]));
    let answer = server.ask(&query_for("www.example.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn nonsense_is_never_passed_on() {
    let noise: [fn(&Message) -> Vec<u8>; 5] = [
        // More than we said we take.
        |query| {
            let mut answer = a(query, 60, 66);
            for last in 0..200 {
                answer.add_answers(a(query, 60, last).answers);
            }
            answer.to_vec().unwrap()
        },
        // Cut in the middle of a record.
        |query| {
            let bytes = a(query, 60, 66).to_vec().unwrap();
            bytes[..bytes.len() - 3].to_vec()
        },
        // A count of records that are not there.
        |query| {
            let mut bytes = a(query, 60, 66).to_vec().unwrap();
            bytes[7] = 9;
            bytes
        },
        // A name that points forwards.
        |query| {
            let mut bytes = a(query, 60, 66).to_vec().unwrap();
            let question = query.queries[0].name().len() + 16;
            bytes[question..question + 2].copy_from_slice(&[0xcf, 0xff]);
            bytes
        },
        |query| [&query.metadata.id.to_be_bytes()[..], &[0x81, 0x80, 0, 0]].concat(),
    ];
    for (number, noise) in noise.into_iter().enumerate() {
        let liar = Upstream::start_raw(move |query, _| Some(vec![noise(query)]));
        let honest = good();
        let server = serve_with(asking(&[liar.address, honest.address]));
        let answer = server.ask(&query_for("www.example.", RecordType::A));
        assert_eq!(data(&answer), "192.0.2.1", "{number}");
        let mut alone = asking(&[liar.address]);
        alone.forward.attempt = Duration::from_millis(100);
        alone.forward.deadline = Duration::from_millis(500);
        let answer = serve_with(alone).ask(&query_for("www.example.", RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{number}");
    }
}

#[test]
fn what_is_truncated_is_asked_again_by_tcp() {
    let upstream = Upstream::start_raw(|query, udp| {
        let mut answer = response(query);
        if udp {
            answer.metadata.truncation = true;
        } else {
            (0..100).for_each(|last| {
                answer.add_answers(a(query, 60, last).answers);
            });
        }
        Some(vec![answer.to_vec().unwrap()])
    });
    let server = upstream.serve(config());
    // More than the client takes by UDP: cut again, for it.
    let answer = server.ask(&with_edns(query_for("www.example.", RecordType::A), 1232));
    assert!(answer.metadata.truncation && answer.answers.len() > 50 && answer.answers.len() < 100);
    if have("what_is_truncated_is_asked_again_by_tcp", &["dig"]) {
        let seen = dig(&server, &["www.example"]);
        assert_eq!(seen.answer.len(), 100, "{}", seen.text);
    }
    assert_eq!(server.count("upstream_tcp"), 1);
}

#[test]
fn an_upstream_without_edns_is_understood() {
    for bare in [false, true] {
        let upstream = Upstream::start_raw(move |query, _| {
            if query.edns.is_none() {
                return Some(vec![a(query, 60, 1).to_vec().unwrap()]);
            }
            let mut answer = response(query);
            answer.edns = None;
            answer.metadata.response_code = ResponseCode::FormErr;
            if bare {
                answer.queries.clear();
            }
            Some(vec![answer.to_vec().unwrap()])
        });
        let server = upstream.serve(config());
        let answer = server.ask(&with_edns(query_for("www.example.", RecordType::A), 1232));
        assert_eq!(data(&answer), "192.0.2.1");
        assert!(answer.edns.is_some());
        server.ask(&query_for("other.example.", RecordType::A));
        assert_eq!(upstream.asked("other.example."), 1, "and remembered to be one");
    }
}

#[test]
fn the_longest_domain_decides_whom_to_ask() {
    let site = Upstream::start(|query| Some(a(query, 60, 2)));
    let lab = Upstream::start(|query| Some(a(query, 60, 3)));
    let rest = good();
    let mut config = asking(&[rest.address]);
    config.forward.domains = vec![
        ("Corp.Test.".into(), vec![site.address]),
        ("lab.corp.test".into(), vec![lab.address]),
    ];
    let server = serve_with(config);
    for (name, expected) in [
        ("corp.test.", "192.0.2.2"),
        ("mail.CORP.test.", "192.0.2.2"),
        ("x.lab.corp.test.", "192.0.2.3"),
        ("xlab.corp.test.", "192.0.2.2"),
        ("xcorp.example.", "192.0.2.1"),
    ] {
        assert_eq!(
            data(&server.ask(&query_for(name, RecordType::A))),
            expected,
            "{name}"
        );
    }
    // Only there are names to be asked for: others are refused.
    let mut only = crate::fixture::config();
    only.forward.domains = vec![("corp.test".into(), vec![site.address])];
    let server = serve_with(only);
    assert_eq!(
        data(&server.ask(&query_for("x.corp.test.", RecordType::A))),
        "192.0.2.2"
    );
    let answer = server.ask(&query_for("www.example.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn equal_questions_are_asked_once() {
    let open = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let open = Arc::clone(&open);
        move |query| {
            while !open.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            Some(a(query, 60, 1))
        }
    });
    let server = upstream.serve(config());
    let query = query_for("www.example.", RecordType::A).to_vec().unwrap();
    let sockets: Vec<_> = (0..100)
        .map(|_| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.send_to(&query, server.address).unwrap();
            socket
        })
        .collect();
    eventually("all waiting", || server.count("coalesced") == 99);
    open.store(true, Ordering::Relaxed);
    for socket in sockets {
        let length = socket.recv(&mut [0; 512]).unwrap();
        assert!(length > 12);
    }
    // One question, repeated as long as it was not answered.
    assert!(upstream.asked("www.example.") <= 5);
}

#[test]
fn an_upstream_that_comes_back_is_asked_again() {
    let dead = Arc::new(AtomicBool::new(true));
    let probes = Arc::new(AtomicUsize::new(0));
    let first = Upstream::start({
        let (dead, probes) = (Arc::clone(&dead), Arc::clone(&probes));
        move |query| {
            probes.fetch_add(1, Ordering::Relaxed);
            (!dead.load(Ordering::Relaxed)).then(|| a(query, 60, 1))
        }
    });
    let mut config = asking(&[first.address]);
    config.forward.deadline = Duration::from_millis(400);
    config.forward.attempt = Duration::from_millis(100);
    let server = serve_with(config);
    let answer = server.ask(&query_for("a.example.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    dead.store(false, Ordering::Relaxed);
    eventually("answered", || {
        data(&server.ask(&query_for("a.example.", RecordType::A))) == "192.0.2.1"
    });
}

#[test]
fn a_loop_is_refused_found_and_left() {
    // Its own address, which can be seen.
    let mut own = config();
    own.listen = vec!["127.0.0.1:5399".parse().unwrap()];
    own.forward.upstreams = own.listen.clone();
    let refused = dns::Server::start(&own, Arc::new(crate::fixture::Mesh::default()))
        .err()
        .unwrap();
    assert!(
        matches!(refused, StartError::Config(ConfigError::OwnUpstream { .. })),
        "{refused}"
    );
    // And through another server, which cannot: what that is asked is asked of the first again, and remembered.
    let middle = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = serve_with(asking(&[middle.local_addr().unwrap()]));
    let first = server.address;
    let passed_on = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed_on);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let outer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        outer.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut known = std::collections::HashMap::new();
        while let Ok((length, client)) = middle.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let question = buffer[2..length].to_ascii_lowercase();
            let id = [buffer[0], buffer[1]];
            if !known.contains_key(&question) {
                let _ = outer.send_to(&buffer[..length], first);
                if let Ok(length) = outer.recv(&mut buffer) {
                    known.insert(question.clone(), buffer[2..length].to_vec());
                }
            }
            if let Some(answer) = known.get(&question) {
                let _ = middle.send_to(&[&id[..], answer].concat(), client);
            }
        }
    });
    eventually("found", || server.count("upstream_loops") == 1);
    // It stays found.
    let probes = passed_on.load(Ordering::Relaxed);
    eventually("probed again", || passed_on.load(Ordering::Relaxed) >= probes + 3);
    let before = passed_on.load(Ordering::Relaxed);
    let answer = server.ask(&query_for("www.example.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(
        passed_on.load(Ordering::Relaxed) - before <= 2,
        "only probes go there"
    );
    assert_eq!(server.count("upstream_loops"), 1);
}

#[test]
fn an_upstream_that_asks_us_for_our_own_zone_is_no_loop() {
    let middle = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = asking(&[middle.local_addr().unwrap()]);
    // Which it has even where the domain is its own.
    config.domain = "internal".into();
    let server = serve_with(config);
    let first = server.address;
    let probed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&probed);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let outer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        outer.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        while let Ok((length, client)) = middle.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let name = query.queries[0].name().to_lowercase().to_string();
            if name.ends_with(".internal.") {
                let _ = outer.send_to(&buffer[..length], first);
                if let Ok(length) = outer.recv(&mut buffer) {
                    let _ = middle.send_to(&buffer[..length], client);
                }
            } else {
                let _ = middle.send_to(&a(&query, 60, 1).to_vec().unwrap(), client);
            }
            seen.fetch_or(name.contains("loop-probe"), Ordering::Relaxed);
        }
    });
    eventually("probed", || probed.load(Ordering::Relaxed));
    let answer = server.ask(&query_for("www.example.", RecordType::A));
    assert_eq!(data(&answer), "192.0.2.1");
    assert_eq!(server.count("upstream_loops"), 0);
}
