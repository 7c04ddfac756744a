//! Test 3 of flow-placement.md: an address is used again by another service's task, while views lag and old packets
//! are replayed. No payload crosses services.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netns::client::raw::Wire;
use netns::client::raw::tcp::{Segment, Speaker, flag};
use netns::client::raw::udp::Datagram;
use netns::client::udp;
use netns::{Service, address, testing, wait};

/// How long the other nodes go on with the old view.
const LAG: Duration = Duration::from_secs(5);

/// Sends it until it is answered, which establishes its flow, and gives the task.
fn establish(wire: &Wire, datagram: &Datagram) -> String {
    let task = (0..5).find_map(|_| {
        wire.send(&datagram.frame(wire)).unwrap();
        wire.receive(Duration::from_secs(1), |frame| {
            let answer = Datagram::parse(frame)?;
            let words = String::from_utf8(answer.payload).ok()?;
            let task = words.strip_prefix("task=")?.split_once(' ')?.0.to_owned();
            (answer.to == datagram.from).then_some(task)
        })
    });
    task.unwrap_or_else(|| panic!("{datagram:?} was not answered"))
}

#[test]
fn a_task_at_a_used_address_never_gets_another_services_payload() {
    let Some(mut cluster) = testing::cluster("identity")
        .service("web", Service::new(&["8080:80", "8080:80/udp"]), 3)
        .service("api", Service::new(&["9090:80", "9090:80/udp"]), 0)
        .stage()
    else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    let targets = cluster.ports(8080);
    let mut replays: Vec<Segment> = Vec::new();
    for (number, &target) in (1u8..=60).zip(targets.iter().cycle()) {
        let own = SocketAddr::new(address::silent(number).like(target.ip()), 7000);
        let mut speaker = Speaker::connect(&wire, own, target, 1000).unwrap();
        speaker.ask().unwrap();
        replays.push(speaker.segment(flag::PSH | flag::ACK, b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"));
        replays.push(speaker.segment(flag::ACK, &[]));
        replays.push(Segment {
            sequence: 1000,
            ..speaker.segment(flag::SYN, &[])
        });
    }

    let datagrams: Vec<Datagram> = (1u8..=60)
        .zip(targets.iter().cycle())
        .map(|(number, &to)| {
            let from = SocketAddr::new(address::silent(number).like(to.ip()), 7001);
            Datagram::new(from, to, &format!("replayed {number}"))
        })
        .collect();
    let tasks: BTreeSet<String> = datagrams.iter().map(|one| establish(&wire, one)).collect();
    assert!(tasks.contains("web.2"), "{tasks:?}: the point of this test");

    let old = cluster.task("web.2").unwrap().clone();
    cluster.stop_task_unseen("web.2").unwrap();
    let new = cluster.add_task("api", Some("node2")).unwrap();
    assert_eq!(
        cluster.task(&new).unwrap().address,
        old.address,
        "the point of this test"
    );
    let lags = [("node2", Duration::ZERO), ("node1", LAG), ("node3", LAG / 2)];
    let lag = cluster.publish_lagging(&lags).unwrap();
    // Its own node knows what its engine runs; the others lag.
    let identity = &cluster.task(&new).unwrap().identity;
    wait::until("node2 knows its new task", Duration::from_secs(10), || {
        cluster.backend_states("node2").unwrap().contains_key(identity)
    })
    .unwrap();
    cluster.wait_applied().unwrap();

    let end = Instant::now() + LAG + Duration::from_secs(1);
    while Instant::now() < end {
        for segment in &replays {
            wire.send(&segment.frame(&wire)).unwrap();
        }
        for datagram in &datagrams {
            wire.send(&datagram.frame(&wire)).unwrap();
        }
        // Whatever answers the replays on the old frontends must be web, or a segment without words.
        let foreign = wire.receive(Duration::from_millis(100), |frame| {
            let segment = Segment::parse(frame).map(|seen| (seen.from, seen.payload));
            let (from, payload) =
                segment.or_else(|| Datagram::parse(frame).map(|seen| (seen.from, seen.payload)))?;
            let words = String::from_utf8_lossy(&payload).into_owned();
            let is_apis = words.contains("\"api\"") || words.starts_with("task=api");
            (from.port() == 8080 && is_apis).then_some(words)
        });
        assert_eq!(foreign, None);
        for &target in &targets {
            // No answer is allowed while views differ; a foreign one is not.
            if let Ok((task, _)) = udp::ask(&cluster.client(), target) {
                assert!(task.starts_with("web."), "{task} answered at {target}");
            }
        }
    }
    lag.over().unwrap();
    cluster.settle().unwrap();
    // Nobody has asked it over UDP yet: no datagram was given to it, answered or not.
    let received = cluster.datagrams_received(&new).unwrap();
    assert_eq!(received, 0, "{new} was given datagrams that are not its own");
    for target in cluster.ports(9090) {
        assert_eq!(
            netns::client::http::ask(&cluster.client(), target).unwrap().task,
            new
        );
    }
    // The new task's kernel saw no segment of a connection that it does not have: it sent no reset.
    let resets = cluster.resets_sent(&new).unwrap();
    assert_eq!(resets, 0, "{new} was given packets that are not its own");
}
