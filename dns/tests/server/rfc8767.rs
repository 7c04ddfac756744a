//! RFC 8767: what is stale is better than nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_server::proto::rr::RecordType;

use crate::fixture::{config, eventually, query_for};
use crate::upstream::{Upstream, a};

/// An upstream that can be told to fall silent, and a server whose only one it is.
fn mortal(ttl: u32, stale: Duration) -> (Upstream, Arc<AtomicBool>, crate::fixture::Served) {
    let dead = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let dead = Arc::clone(&dead);
        move |query| (!dead.load(Ordering::Relaxed)).then(|| a(query, ttl, 1))
    });
    let mut config = config();
    config.forward.stale = stale;
    config.forward.deadline = Duration::from_millis(2500);
    let server = upstream.serve(config);
    (upstream, dead, server)
}

#[test]
fn rfc8767_5_an_answer_past_its_time_is_given_after_a_while_and_then_at_once() {
    let (upstream, dead, server) = mortal(1, Duration::from_secs(60));
    let query = query_for("www.example.", RecordType::A);
    assert_eq!(server.ask(&query).answers[0].ttl, 1);
    dead.store(true, Ordering::Relaxed);
    let asked = upstream.asked("www.example.");
    let mut waited = Duration::ZERO;
    eventually("asked after its time", || {
        let start = Instant::now();
        let answer = server.ask(&query);
        waited = start.elapsed();
        assert_eq!(answer.answers.len(), 1, "never an error");
        upstream.asked("www.example.") > asked
    });
    assert!(
        (Duration::from_millis(1700)..Duration::from_millis(2400)).contains(&waited),
        "{waited:?}"
    );
    // The failure is known once its deadline has passed; from then on nobody waits, and the TTL is 30 s.
    eventually("stale at once", || {
        let start = Instant::now();
        let answer = server.ask(&query);
        assert_eq!(answer.answers[0].ttl, 30);
        start.elapsed() < Duration::from_millis(500)
    });
    assert!(server.count("stale") >= 2);
}

#[test]
fn rfc8767_4_what_is_too_old_is_not_given() {
    let (upstream, dead, server) = mortal(1, Duration::from_millis(1));
    let query = query_for("www.example.", RecordType::A);
    assert_eq!(server.ask(&query).answers.len(), 1);
    dead.store(true, Ordering::Relaxed);
    let asked = upstream.asked("www.example.");
    eventually("a failure", || {
        u16::from(server.ask(&query).metadata.response_code) == 2
    });
    assert!(upstream.asked("www.example.") > asked);
}
