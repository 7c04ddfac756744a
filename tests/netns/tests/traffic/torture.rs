//! Test 2 of flow-placement.md: what a hostile or unlucky client does to a tuple. No established connection is reset.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use netns::client::http::Connection;
use netns::client::raw::Wire;
use netns::client::raw::tcp::{Segment, Speaker, flag};
use netns::testing::Stage;
use netns::{Cluster, Service, address, testing, wait};

use crate::support::tables;

fn cluster(name: &str, tasks: u32) -> Option<Stage> {
    let web = Service::new(&["8080:80", "8081:80", "8007:7"]);
    testing::cluster(name).service("web", web, tasks).stage()
}

fn own(number: u8, target: SocketAddr) -> SocketAddr {
    SocketAddr::new(address::silent(number).like(target.ip()), 6000)
}

/// Established connections to all nodes, and the task each has.
fn speakers<'a>(cluster: &Cluster, wire: &'a Wire, count: u8) -> Vec<(Speaker<'a>, String)> {
    speakers_from(1000, cluster, wire, count)
}

/// The same, of the same tuples, from another sequence number.
fn speakers_from<'a>(isn: u32, cluster: &Cluster, wire: &'a Wire, count: u8) -> Vec<(Speaker<'a>, String)> {
    let targets = cluster.ports(8080).into_iter().cycle();
    (1..=count)
        .zip(targets)
        .map(|(number, target)| {
            let mut speaker = Speaker::connect(wire, own(number, target), target, isn).unwrap();
            let task = task(&speaker.ask().unwrap());
            (speaker, task)
        })
        .collect()
}

fn task(answer: &str) -> String {
    let (_, rest) = answer
        .split_once("\"task\":\"")
        .unwrap_or_else(|| panic!("no task in {answer}"));
    rest.split_once('"').unwrap().0.to_owned()
}

fn all_alive(speakers: Vec<(Speaker<'_>, String)>) {
    for (mut speaker, before) in speakers {
        assert_eq!(task(&speaker.ask().unwrap()), before);
    }
}

/// Waits until the tables hold the connections that are alive and no others. Closed ones are kept for two minutes: the
/// agents are started again with clocks that are an hour ahead, and find them old. So are the live ones, which stay.
fn only_these_are_left(cluster: &mut Cluster, live: usize) {
    let before = tables::all(cluster);
    assert!(before.flow >= live && before.rev >= live, "{before:?}");
    cluster.restart_agents_ahead(Duration::from_secs(3600)).unwrap();
    // A task's kernel may keep a closed connection in TIME_WAIT for a minute, and is asked about it.
    let left = || {
        let now = tables::all(cluster);
        assert!(now.flow >= live && now.rev >= live, "{now:?}: a live one went");
        (now.flow, now.rev) == (live, live)
    };
    wait::until(
        "closed connections leave the tables",
        Duration::from_secs(120),
        left,
    )
    .unwrap_or_else(|error| panic!("{error}: {:?} of {before:?}", tables::all(cluster)));
}

#[test]
fn syns_retransmitted_and_spoofed_across_a_slots_move_reset_nobody() {
    let Some(mut cluster) = cluster("syns", 3) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    let speakers = speakers(&cluster, &wire, 48);
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    for (speaker, _) in &speakers {
        for isn in [1000, 1000, 5_000_000, 3_000_000_000] {
            Speaker::new(&wire, speaker.own, speaker.target, isn)
                .say(flag::SYN, &[])
                .unwrap();
        }
    }
    all_alive(speakers);
}

#[test]
fn a_forged_reset_outside_the_window_ends_nothing_however_long_it_is_ago() {
    let Some(mut cluster) = cluster("forged", 3) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    let speakers = speakers(&cluster, &wire, 24);
    for (speaker, _) in &speakers {
        let forged = Speaker {
            next: speaker.next.wrapping_sub(1_000_000),
            ..Speaker::new(&wire, speaker.own, speaker.target, 0)
        };
        forged.say(flag::RST, &[]).unwrap();
    }
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    // An entry that saw a reset is closing for 10 s: it must be found alive by then.
    std::thread::sleep(Duration::from_secs(14));
    all_alive(speakers);
}

#[test]
fn a_half_closed_connection_carries_the_other_half_to_its_end() {
    let Some(mut cluster) = cluster("half", 3) else {
        return;
    };
    let targets = cluster.ports(8007);
    let mut connections = cluster
        .client()
        .run(|| {
            targets
                .iter()
                .map(|&target| Connection::open(target, None).unwrap())
                .collect::<Vec<_>>()
        })
        .unwrap();
    let part = vec![7; 100_000];
    for connection in &mut connections {
        connection.stream().write_all(&part).unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
    }
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    for connection in &mut connections {
        let mut echo = Vec::new();
        connection.stream().read_to_end(&mut echo).unwrap();
        assert_eq!(echo.len(), part.len());
    }
}

#[test]
fn a_tuple_is_used_again_at_once_after_either_side_closed_or_both() {
    let Some(mut cluster) = cluster("again", 3) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    let patience = Duration::from_secs(5);
    for (number, target) in (1u8..).zip(cluster.ports(8080)) {
        let own = own(number, target);
        for round in 1..6u32 {
            let mut speaker = Speaker::connect(&wire, own, target, round * 10_000_000).unwrap();
            speaker.ask().unwrap();
            let late = speaker
                .segment(flag::PSH | flag::ACK, b"GET / HTTP/1.1\r\n\r\n")
                .frame(&wire);
            if round % 2 == 0 {
                // The task closes first and keeps the tuple in TIME_WAIT.
                let request = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
                speaker.say(flag::PSH | flag::ACK, request).unwrap();
                let fin = speaker.hear(patience, |segment| segment.has(flag::FIN)).unwrap();
                speaker.next += request.len() as u32;
                if round != 4 {
                    speaker.expected = fin
                        .sequence
                        .wrapping_add(fin.payload.len() as u32)
                        .wrapping_add(1);
                }
                // In round 4 both FINs cross: this one does not acknowledge the other.
                speaker.say(flag::FIN | flag::ACK, &[]).unwrap();
                speaker.next += 1;
                speaker.expected = fin
                    .sequence
                    .wrapping_add(fin.payload.len() as u32)
                    .wrapping_add(1);
                speaker.say(flag::ACK, &[]).unwrap();
            } else {
                speaker.say(flag::FIN | flag::ACK, &[]).unwrap();
                let fin = speaker.hear(patience, |segment| segment.has(flag::FIN)).unwrap();
                speaker.next += 1;
                speaker.expected = fin.sequence.wrapping_add(1);
                speaker.say(flag::ACK, &[]).unwrap();
            }
            // A segment of the old connection, late.
            wire.send(&late).unwrap();
        }
    }
    // Of 30 connections.
    only_these_are_left(&mut cluster, 0);
}

/// The client closes first, or has the task close first, whose kernel then keeps the tuple in TIME_WAIT.
fn close(mut speaker: Speaker<'_>, task_first: bool) {
    let hear = |speaker: &Speaker<'_>| {
        speaker
            .hear(Duration::from_secs(5), |segment| segment.has(flag::FIN))
            .unwrap()
    };
    let fin = if task_first {
        let request = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
        speaker.say(flag::PSH | flag::ACK, request).unwrap();
        speaker.next += request.len() as u32;
        let fin = hear(&speaker);
        speaker.expected = after(&fin);
        speaker.say(flag::FIN | flag::ACK, &[]).unwrap();
        fin
    } else {
        speaker.say(flag::FIN | flag::ACK, &[]).unwrap();
        hear(&speaker)
    };
    speaker.next += 1;
    speaker.expected = after(&fin);
    speaker.say(flag::ACK, &[]).unwrap();
}

/// What acknowledges a FIN and all before it.
fn after(fin: &Segment) -> u32 {
    fin.sequence
        .wrapping_add(fin.payload.len() as u32)
        .wrapping_add(1)
}

#[test]
fn a_tuple_is_used_again_at_another_node_and_the_slot_comes_back() {
    let Some(mut cluster) = cluster("comeback", 3) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    for (number, (speaker, _)) in speakers(&cluster, &wire, 36).into_iter().enumerate() {
        close(speaker, number % 2 == 0);
    }
    cluster.set_node_draining("node2", true).unwrap();
    cluster.settle().unwrap();
    let again = speakers_from(10_000_000, &cluster, &wire, 36);
    cluster.set_node_draining("node2", false).unwrap();
    cluster.settle().unwrap();
    // What node2 remembers of the first connections says nothing of these.
    all_alive(again);
}

#[test]
fn late_segments_of_an_old_connection_do_not_harm_the_new_one() {
    let Some(mut cluster) = cluster("late", 3) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    let old = speakers(&cluster, &wire, 24);
    let late: Vec<Vec<u8>> = old
        .iter()
        .flat_map(|(speaker, _)| {
            [flag::ACK, flag::PSH | flag::ACK, flag::FIN | flag::ACK]
                .map(|flags| speaker.segment(flags, b"late").frame(&wire))
        })
        .collect();
    for (speaker, _) in old {
        speaker.say(flag::RST | flag::ACK, &[]).unwrap();
    }
    let new: Vec<_> = (1u8..=24)
        .zip(cluster.ports(8080).into_iter().cycle())
        .map(|(number, target)| {
            let mut speaker = Speaker::connect(&wire, own(number, target), target, 900_000_000).unwrap();
            let task = task(&speaker.ask().unwrap());
            (speaker, task)
        })
        .collect();
    for frame in &late {
        wire.send(frame).unwrap();
    }
    all_alive(new);
    only_these_are_left(&mut cluster, 24);
}

#[test]
fn one_client_port_reaches_two_frontends_of_one_task() {
    let Some(cluster) = cluster("twofronts", 1) else {
        return;
    };
    let wire = Wire::of_client(&cluster).unwrap();
    for number in 1..=10 {
        let mut pair: Vec<_> = [8080, 8081]
            .iter()
            .flat_map(|&port| cluster.ports(port))
            .filter(SocketAddr::is_ipv4)
            .map(|target| Speaker::connect(&wire, own(number, target), target, 1000).unwrap())
            .collect();
        assert_eq!(pair.len(), 6);
        for speaker in &mut pair {
            assert_eq!(task(&speaker.ask().unwrap()), "web.1");
        }
        for speaker in &mut pair {
            speaker.ask().unwrap();
        }
    }
}
