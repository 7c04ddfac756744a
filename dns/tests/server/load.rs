//! Much at once: nothing wrong is served, and nobody is slowed by others.

use std::collections::HashMap;
use std::iter;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns::{Config, LimitConfig};
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::fixture::{Served, config, entry, eventually, query_for, serve, serve_with};
use crate::tools::{have, run};
use crate::upstream::{Upstream, a, silent};

/// Asks `names`, so many at a time, and returns the answers; each must come.
fn ask_all(server: &Served, queries: &[Message], at_once: usize) -> Vec<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 4096];
    let mut answers = Vec::new();
    for chunk in queries.chunks(at_once) {
        for query in chunk {
            socket.send(&query.to_vec().unwrap()).unwrap();
        }
        let mut waiting: HashMap<u16, &Message> =
            chunk.iter().map(|query| (query.metadata.id, query)).collect();
        while !waiting.is_empty() {
            let length = socket.recv(&mut buffer).unwrap();
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            let query = waiting
                .remove(&answer.metadata.id)
                .expect("one answer to each query");
            assert_eq!(query.queries, answer.queries);
            answers.push(answer);
        }
    }
    answers
}

#[test]
fn ten_thousand_names_are_each_answered_with_their_own_address() {
    let server = serve();
    let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number);
    for number in 0..10_000 {
        server
            .mesh
            .set(&format!("n{number}"), entry(&[address(number).octets()], &[]));
    }
    let queries: Vec<_> = (0..10_000)
        .map(|number| query_for(&format!("n{number}.portico.internal."), RecordType::A))
        .collect();
    for answer in ask_all(&server, &queries, 100) {
        let name = answer.queries[0].name().to_string();
        let number = name[1..].split('.').next().unwrap().parse().unwrap();
        assert_eq!(answer.answers[0].data.to_string(), address(number).to_string());
    }
    assert_eq!(server.count("found"), 10_000);
}

#[test]
fn ten_thousand_foreign_names_are_remembered_within_bounds() {
    let upstream = Upstream::start(|query| {
        let name = query.queries[0].name().to_string();
        Some(a(
            query,
            600,
            name[1..].split('.').next()?.parse::<u32>().ok()? as u8,
        ))
    });
    let mut config = config();
    config.forward.cache_bytes = 256 << 10;
    let server = upstream.serve(config);
    let queries: Vec<_> = (0..10_000)
        .map(|number| query_for(&format!("n{number}.example."), RecordType::A))
        .collect();
    for answer in ask_all(&server, &queries, 50) {
        let name = answer.queries[0].name().to_string();
        let number: u32 = name[1..].split('.').next().unwrap().parse().unwrap();
        assert_eq!(
            answer.answers[0].data.to_string(),
            format!("192.0.2.{}", number as u8)
        );
    }
}

#[test]
fn five_thousand_wait_for_a_silent_upstream_and_local_names_do_not() {
    // A descriptor for each question in flight.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    if hard < 18_000 {
        crate::tools::skip("five_thousand_wait", "it needs 18000 open files");
        return;
    }
    let mut config = Config {
        limit: None,
        ..config()
    };
    config.forward.upstreams = vec![silent()];
    let server = serve_with(config);
    // Of ten clients: one alone may not have them all.
    let clients: Vec<_> = (0..12)
        .map(|last| {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, last + 1), 0)).unwrap();
            socket.connect(server.address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket
        })
        .collect();
    let readers: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.try_clone().unwrap();
            let mut buffer = [0; 512];
            thread::spawn(move || -> Vec<_> {
                let answer = || {
                    let length = client.recv(&mut buffer).ok()?;
                    Message::from_vec(&buffer[..length]).ok()
                };
                iter::from_fn(answer).take(500).collect()
            })
        })
        .collect();
    let mut asked = 0;
    for number in 0..6000 {
        let query = query_for(&format!("n{number}.example."), RecordType::A);
        clients[number % 12].send(&query.to_vec().unwrap()).unwrap();
        asked += 1;
        if asked % 500 == 0 {
            eventually("received", || server.count("received_udp") == asked);
        }
    }
    // All those above the limit hear it at once; the mesh's own names are answered meanwhile, quickly.
    eventually("told", || server.count("overloaded") == 1000);
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            let answer = server.ask(&query_for("web.", RecordType::A));
            assert_eq!(answer.answers.len(), 1);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[100] < Duration::from_millis(20), "median {:?}", times[100]);
    // And in the end everybody has an answer.
    for reader in readers {
        let answers = reader.join().unwrap();
        assert_eq!(answers.len(), 500);
        assert!(
            answers
                .iter()
                .all(|answer| answer.metadata.response_code == ResponseCode::ServFail)
        );
    }
}

#[test]
fn a_client_in_a_tight_loop_does_not_slow_others() {
    let server = serve_with(Config {
        limit: Some(LimitConfig {
            per_second: 1000,
            burst: 1000,
            clients: 100,
        }),
        ..config()
    });
    let stop = Arc::new(AtomicBool::new(false));
    let greedy = {
        let (stop, address) = (Arc::clone(&stop), server.address);
        thread::spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 66), 0)).unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let query = query_for("many.", RecordType::A).to_vec().unwrap();
            // Bounded, should the other side panic.
            for _ in 0..50_000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // As fast as a program with many threads can that does not care for answers.
                for _ in 0..64 {
                    let _ = socket.send(&query);
                }
                while socket.recv(&mut [0; 2048]).is_ok() {}
            }
        })
    };
    eventually("limited", || server.count("limited_dropped") > 1000);
    let start = Instant::now();
    for _ in 0..500 {
        let answer = server.ask(&query_for("tasks.web.", RecordType::A));
        assert_eq!(answer.answers.len(), 3);
    }
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    greedy.join().unwrap();
    // Some of what an unloaded machine needs (25 ms), for there are two cores for three busy threads and other tests.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn dnsperf_loses_nothing() {
    if !have("dnsperf_loses_nothing", &["dnsperf"]) {
        return;
    }
    let server = serve_with(Config {
        limit: None,
        ..config()
    });
    let directory = tempfile::TempDir::new().unwrap();
    let queries = directory.path().join("queries");
    std::fs::write(
        &queries,
        "web.portico.internal A\ntasks.web A\nnothing.portico.internal AAAA\nmany A\n",
    )
    .unwrap();
    let port = server.address.port().to_string();
    for mode in ["udp", "tcp"] {
        let text = run(
            "dnsperf",
            &[
                "-s",
                "127.0.0.1",
                "-p",
                &port,
                "-d",
                queries.to_str().unwrap(),
                "-m",
                mode,
                "-n",
                "5000",
                "-c",
                "4",
                "-q",
                "50",
                "-t",
                "10",
            ],
        );
        assert!(text.contains("Queries completed:    20000 (100.00%)"), "{text}");
    }
}
