//! What nobody knows is answered, and the answer is one that the client believes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netns::client::http::Connection;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Speaker, flag};
use netns::client::report::Kind;
use netns::{address, testing};

#[test]
fn a_segment_of_no_connection_gets_a_reset_with_the_exact_sequence_number() {
    let Some(cluster) = testing::web("unknown", 3).stage() else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    for (number, target) in (1u8..).zip(cluster.ports(8080).into_iter().cycle().take(30)) {
        let own = SocketAddr::new(
            address::silent(number).like(target.ip()),
            5000 + u16::from(number),
        );
        let mut speaker = Speaker::new(&wire, own, target, 0x1234_5678);
        speaker.expected = 0xfedc_ba98;
        speaker.say(flag::PSH | flag::ACK, b"anybody?").unwrap();
        let reset = speaker
            .hear(Duration::from_secs(5), |segment| segment.has(flag::RST))
            .unwrap_or_else(|| panic!("{own} heard nothing from {target}"));
        // RFC 9293, section 3.10.7.1: a segment with an acknowledgement is reset with that as sequence number.
        assert_eq!(reset.sequence, 0xfedc_ba98);
    }
}

#[test]
fn a_reset_is_never_answered_with_a_reset() {
    let Some(cluster) = testing::web("noreset", 3).stage() else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    for (number, target) in (1u8..).zip(cluster.ports(8080)) {
        let own = SocketAddr::new(address::silent(number).like(target.ip()), 5000);
        let speaker = Speaker::new(&wire, own, target, 1);
        speaker.say(flag::RST | flag::ACK, &[]).unwrap();
        assert_eq!(speaker.hear(Duration::from_millis(300), |_| true), None);
    }
}

#[test]
fn a_client_whose_task_is_gone_is_reset_when_it_speaks() {
    let Some(mut cluster) = testing::web("gone", 3).stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    let mut connections = cluster
        .client()
        .run(|| {
            targets
                .iter()
                .cycle()
                .take(60)
                .map(|&target| {
                    let mut connection = Connection::open(target, None)?;
                    let task = connection.ask()?.task;
                    Ok((task, connection))
                })
                .collect::<std::io::Result<Vec<_>>>()
        })
        .unwrap()
        .unwrap();
    cluster.unplug_task("web.2").unwrap();
    cluster.stop_task("web.2").unwrap();
    cluster.settle().unwrap();
    let mut reset = 0;
    for (task, connection) in &mut connections {
        let began = Instant::now();
        match connection.ask() {
            Ok(answer) => assert_eq!(&answer.task, task),
            Err(error) => {
                assert_eq!(
                    (task.as_str(), Kind::of(&error)),
                    ("web.2", Kind::Reset),
                    "{error}"
                );
                assert!(
                    began.elapsed() < Duration::from_secs(3),
                    "after {:?}",
                    began.elapsed()
                );
                reset += 1;
            }
        }
    }
    assert!(reset > 0);
}

#[test]
fn a_service_without_tasks_refuses_after_ten_seconds() {
    let Some(mut cluster) = testing::web("empty", 3).stage() else {
        return;
    };
    cluster.scale("web", 0).unwrap();
    let target = cluster.ports(8080)[0];
    let refused = || {
        let outcome = cluster
            .client()
            .run(|| Connection::open_with(target, None, Duration::from_millis(500)))
            .unwrap();
        outcome.err().map(|error| Kind::of(&error)) == Some(Kind::Refused)
    };
    let took = netns::wait::until("connections are refused", Duration::from_secs(30), refused).unwrap();
    assert!(
        took > Duration::from_secs(5),
        "a service that is being replaced is not refused at once: {took:?}"
    );
}
