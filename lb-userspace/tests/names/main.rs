//! The name server beside a writer of snapshots, asked over real sockets: by dig from a namespace of tasks, and by this
//! node itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod place;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lb_userspace::names::report::{AnswerSource, DnsQuestion, UpstreamState};
use place::{Mesh, Place, eventually};

const NODES: &str = "nodes: { node1: 192.0.2.11, node2: 192.0.2.12 }\nservices:\n";

/// `web` on `front`, by two tasks here and one elsewhere; `db` on `back`; `all` for everybody.
fn shop(web: &str) -> String {
    format!(
        "{NODES}  web:\n    stack: shop\n    networks: [front]\n    aliases: [www]\n    expose: [\"http=80\"]\n    \
         backends:\n      - {{ node: node1, address: [172.18.0.2, \"2001:db8:18::2\"], task: web.1 }}\n{web}  \
         db:\n    networks: [back]\n    endpoint: dnsrr\n    ttl: 1s\n    expose: [5432]\n    \
         backends:\n      - {{ node: node1, address: 172.18.0.3, task: db.1 }}\n  \
         all:\n    ports: [\"8080:80\"]\n    endpoint: dnsrr\n    backends:\n      - {{ node: node2, address: 172.18.0.2, task: all.1 }}\n"
    )
}

#[test]
fn a_task_is_told_the_names_of_its_networks_by_udp_and_tcp_in_both_families() {
    let test = "a_task_is_told_the_names_of_its_networks_by_udp_and_tcp_in_both_families";
    Place::enter(test, |place| async move {
        let mut mesh = Mesh::start(
            "listen = ['172.18.0.1', '2001:db8:18::1']\nupstreams = []\nsearch = ['corp.example']",
        );
        mesh.serve(&shop("")).await;
        let vip = mesh.vip("web");
        // A task of web, a task of db, somebody who is no task.
        for (name, kind, web, db, stranger) in [
            ("web", "A", &*vip, "NXDOMAIN", "NXDOMAIN"),
            ("WWW.front.portico.internal", "A", &vip, "NXDOMAIN", "NXDOMAIN"),
            ("web.shop.corp.example", "A", &vip, "NXDOMAIN", "NXDOMAIN"),
            ("tasks.web", "A", "172.18.0.2", "NXDOMAIN", "NXDOMAIN"),
            ("tasks.web", "AAAA", "2001:db8:18::2", "NXDOMAIN", "NXDOMAIN"),
            (
                "_http._tcp.web",
                "SRV",
                "0 1 80 web.portico.internal.",
                "NXDOMAIN",
                "NXDOMAIN",
            ),
            ("db", "A", "NXDOMAIN", "172.18.0.3", "NXDOMAIN"),
            ("db", "AAAA", "NXDOMAIN", "NOERROR", "NXDOMAIN"),
            ("all", "A", "172.18.0.2", "172.18.0.2", "172.18.0.2"),
            (
                "2.0.18.172.in-addr.arpa",
                "PTR",
                "web.1.portico.internal.",
                "NXDOMAIN",
                "NXDOMAIN",
            ),
            ("front.portico.internal", "A", "NOERROR", "NXDOMAIN", "NXDOMAIN"),
            ("www.example.com", "A", "REFUSED", "REFUSED", "REFUSED"),
        ] {
            for way in ["+notcp", "+tcp"] {
                for (client, expected) in [("172.18.0.2", web), ("172.18.0.3", db), ("172.18.0.9", stranger)]
                {
                    let said = place.dig("172.18.0.1", client, &[name, kind, way]).await;
                    assert_eq!(said, expected, "{name} {kind} for {client} {way}");
                }
                let said = place
                    .dig("2001:db8:18::1", "2001:db8:18::2", &[name, kind, way])
                    .await;
                assert_eq!(said, web, "{name} {kind} by IPv6 {way}");
            }
        }
        // This node sees everything.
        for (name, expected) in [("web", &*vip), ("db", "172.18.0.3")] {
            assert_eq!(place.dig_here("172.18.0.1", &[name]).await, expected);
        }
    });
}

#[test]
fn scaling_and_draining_are_seen_within_100_ms() {
    Place::enter("scaling_and_draining_are_seen_within_100_ms", |_| async {
        let mut mesh = Mesh::start("listen = ['127.0.0.1:5353']\nupstreams = []");
        mesh.serve(&shop("")).await;
        let two = "      - { node: node2, address: 172.18.0.7, task: web.2 }\n";
        let gone = "      - { node: node2, address: 172.18.0.7, task: web.2, state: draining }\n";
        let ask = "tasks.web.portico.internal";
        let mut took = Vec::new();
        // The new task warms for half a second first, on every node; it has its own name at once.
        for (file, name, expected) in [
            (shop(two), "web.2.portico.internal", vec!["172.18.0.7"]),
            (shop(gone), "web.2.portico.internal", vec![]),
            (shop(two), "web.2.portico.internal", vec!["172.18.0.7"]),
            (shop(""), ask, vec!["172.18.0.2"]),
        ] {
            mesh.wish(&file).await;
            let published = mesh.published().await;
            while mesh.addresses(name).await != expected {
                assert!(
                    published.elapsed() < Duration::from_secs(5),
                    "{name}: {expected:?}"
                );
            }
            took.push(published.elapsed());
        }
        // A machine that has other things to do may be late, but not every time.
        took.sort();
        assert!(took[0] < Duration::from_millis(100), "{took:?}");
    });
}

#[test]
fn an_address_that_comes_later_is_answered_and_one_that_is_taken_is_reported_and_tried_again() {
    let test = "an_address_that_comes_later_is_answered_and_one_that_is_taken_is_reported_and_tried_again";
    Place::enter(test, |place| async move {
        let other = TcpListener::bind("172.18.0.1:53").unwrap();
        let mut mesh = Mesh::start("listen = ['169.254.20.10', '172.18.0.1']\nupstreams = []");
        mesh.serve(&shop("")).await;
        let report = mesh.server.report();
        let [first, second] = &report.listening[..] else {
            panic!("{report:?}")
        };
        assert_eq!(
            (&first.error, first.present, second.present),
            (&None, false, true)
        );
        assert!(second.error.as_deref().unwrap().contains("in use"), "{second:?}");
        assert!(
            report.problems[0].error.contains("172.18.0.1:53/tcp"),
            "{report:?}"
        );
        place.ip("addr add 169.254.20.10/32 dev lo");
        assert_eq!(place.dig_here("169.254.20.10", &["db"]).await, "172.18.0.3");
        drop(other);
        eventually("listened on", || mesh.server.report().problems.is_empty()).await;
        assert_eq!(place.dig_here("172.18.0.1", &["db", "+tcp"]).await, "172.18.0.3");
    });
}

#[test]
fn what_is_asked_while_an_agent_starts_is_answered_when_it_knows_its_names() {
    let test = "what_is_asked_while_an_agent_starts_is_answered_when_it_knows_its_names";
    Place::enter(test, |place| async move {
        let mut mesh = Mesh::start("listen = ['172.18.0.1']\nupstreams = []");
        let asked = tokio::spawn(async move {
            let answer = place.dig("172.18.0.1", "172.18.0.3", &["db"]).await;
            (answer, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!asked.is_finished());
        let known = Instant::now();
        mesh.serve(&shop("")).await;
        let (answer, answered) = asked.await.unwrap();
        assert_eq!(answer, "172.18.0.3");
        assert!(
            answered - known < Duration::from_secs(2),
            "{:?}",
            answered - known
        );
    });
}

#[test]
fn a_question_from_within_tells_who_answered_and_why() {
    Place::enter("a_question_from_within_tells_who_answered_and_why", |_| async {
        // The other one is nobody: it is found to be silent.
        let upstream = place::upstream([192, 0, 2, 77]);
        let mut mesh = Mesh::start(&format!(
            "listen = ['127.0.0.1:5353']\nupstreams = ['{upstream}']\nroutes.'corp.example' = ['127.0.0.9:9']"
        ));
        mesh.serve(&shop("")).await;
        for (name, kind, from, status, source, words) in [
            (
                "web",
                "a",
                "172.18.0.2",
                "NOERROR",
                AnswerSource::Mesh,
                "the service web (on front): its VIPs; 172.18.0.2 is a task of web (on front)",
            ),
            (
                "web",
                "A",
                "172.18.0.3",
                "NXDOMAIN",
                AnswerSource::Mesh,
                "not told to this client; 172.18.0.3 is a task of db (on back)",
            ),
            (
                "tasks.all",
                "A",
                "198.51.100.7",
                "NOERROR",
                AnswerSource::Mesh,
                "1 active of 1 tasks of the service all (on default); 198.51.100.7 is no task on this node",
            ),
            (
                "db.1",
                "A",
                "127.0.0.1",
                "NOERROR",
                AnswerSource::Mesh,
                "the task db.1 on node1, of the service db (on back); 127.0.0.1 is this node itself",
            ),
            (
                "3.0.18.172.in-addr.arpa",
                "PTR",
                "127.0.0.1",
                "NOERROR",
                AnswerSource::Mesh,
                "the task db.1 on node1, of the service db",
            ),
            (
                "portico.internal",
                "SOA",
                "127.0.0.1",
                "NOERROR",
                AnswerSource::Server,
                "knows this itself",
            ),
            (
                "nobody",
                "A",
                "127.0.0.1",
                "NXDOMAIN",
                AnswerSource::Server,
                "is called so",
            ),
            (
                "www.example.com",
                "A",
                "127.0.0.1",
                "NOERROR",
                AnswerSource::Upstream,
                "says so",
            ),
            (
                "www.example.com",
                "A",
                "127.0.0.1",
                "NOERROR",
                AnswerSource::Cache,
                "has said so before",
            ),
            (
                "a.corp.example",
                "A",
                "127.0.0.1",
                "SERVFAIL",
                AnswerSource::Nobody,
                "no name server answered",
            ),
        ] {
            let question = DnsQuestion {
                name: name.into(),
                kind: kind.into(),
                from: from.parse().unwrap(),
            };
            let answer = mesh.server.ask(question).await.unwrap();
            assert_eq!((&*answer.status, answer.source), (status, source), "{answer:?}");
            assert!(answer.why.contains(words), "{words:?} is not in {answer:?}");
        }
        let states = || {
            let upstreams = mesh.server.report().upstreams;
            upstreams
                .iter()
                .map(|upstream| upstream.state)
                .collect::<Vec<_>>()
        };
        eventually("silence is noticed", || {
            states() == [UpstreamState::Silent, UpstreamState::Answers]
        })
        .await;
        assert!(mesh.server.report().problems[0].error.contains("127.0.0.9:9"));
    });
}
