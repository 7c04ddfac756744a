//! The services file: whatever a person or a program does to it, the last good picture serves on.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use netns::client::load::Plan;
use netns::{Cluster, services, testing, wait};

/// What the agent of node1 says against its services file.
fn complaint(cluster: &Cluster) -> Option<String> {
    let status = cluster.portico_json("node1", &["status"]).ok()?;
    status["sources"][0]["error"].as_str().map(str::to_owned)
}

#[test]
fn a_bad_file_is_refused_with_its_place_and_reason_and_the_last_good_one_serves_on() {
    let Some(cluster) = testing::web("badfile", 3).stage() else {
        return;
    };
    let path = cluster.services_file("node1");
    let good = fs::read_to_string(&path).unwrap();
    let load = Plan::new_connections(&cluster.ports(8080), 100.0).start(&cluster.client());

    // Each with a word of the reason, and the line where it is.
    let twice = format!("{good}  twin:\n    ports: [\"8080:80\"]\n    backends: []\n");
    let lines = |text: &str| text.lines().count();
    let line_of = |text: &str, word: &str| text.lines().position(|line| line.contains(word)).unwrap() + 1;
    let cases = [
        (
            "an unknown key",
            good.replace("ports:", "prots:"),
            "prots",
            line_of(&good, "ports:"),
        ),
        (
            "a bad port",
            good.replace("8080:80", "99999:80"),
            "99999",
            line_of(&good, "ports:"),
        ),
        ("a duplicate frontend", twice.clone(), "8080", lines(&twice) - 1),
        (
            "an unknown node",
            good.replace("task: \"web.2\", node: node2", "task: \"web.2\", node: nowhere"),
            "nowhere",
            line_of(&good, "web.2"),
        ),
        ("an empty file", String::new(), "empty", 1),
        (
            "half a file",
            good[..good.find("web.2").unwrap()].to_owned(),
            "",
            line_of(&good, "web.2"),
        ),
    ];
    for (case, text, word, line) in cases {
        services::replace(&path, &text).unwrap();
        let (words, _) = wait::until_some(&format!("{case} is refused"), Duration::from_secs(10), || {
            // The complaint about the case before is not the one waited for.
            Ok::<_, String>(complaint(&cluster).filter(|words| words.contains(word)))
        })
        .unwrap();
        assert!(words.contains("services.yaml"), "{case}: {words}");
        assert!(
            words.contains(&format!(":{line}")) || case == "an empty file",
            "{case}, line {line}: {words}"
        );
        load.wait_for(30).unwrap();
        services::replace(&path, &good).unwrap();
        wait::until("the good file is taken", Duration::from_secs(10), || {
            complaint(&cluster).is_none()
        })
        .unwrap();
    }

    // Written in place, slowly, by an editor that knows no better; and gone for a moment.
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    load.wait_for(30).unwrap();
    fs::write(&path, &good).unwrap();
    fs::remove_file(&path).unwrap();
    load.wait_for(30).unwrap();
    services::replace(&path, &good).unwrap();
    wait::until("the good file is taken", Duration::from_secs(10), || {
        complaint(&cluster).is_none()
    })
    .unwrap();
    cluster.settle().unwrap();
    load.stop().unwrap().assert_flawless();
}

/// The first half makes a good file, whose services lack what comes later.
#[test]
fn a_file_half_written_at_a_line_end_changes_nothing_until_it_is_closed() {
    let Some(cluster) = testing::web("halffile", 3).stage() else {
        return;
    };
    let path = cluster.services_file("node1");
    let good = fs::read_to_string(&path).unwrap();
    let halves = good.split_at(good[..good.find("web.2").unwrap()].rfind('\n').unwrap() + 1);
    let tasks = || cluster.backend_states("node1").unwrap().len();
    assert_eq!(tasks(), 3);
    // Connections that are kept: those of a task that the agent thinks gone would be reset.
    let kept = Plan::keep_alive(&cluster.ports(8080), 100.0).start(&cluster.client());
    kept.wait_for(100).unwrap();

    let mut file = fs::File::create(&path).unwrap();
    file.write_all(halves.0.as_bytes()).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        kept.wait_for(20).unwrap();
        assert_eq!((tasks(), complaint(&cluster)), (3, None));
    }
    file.write_all(halves.1.as_bytes()).unwrap();
    drop(file);
    kept.wait_for(100).unwrap();
    assert_eq!((tasks(), complaint(&cluster)), (3, None));
    kept.stop().unwrap().assert_flawless();

    // It is read when it is closed: what is left out then is meant.
    fs::write(&path, halves.0).unwrap();
    wait::until("the shorter file is taken", Duration::from_secs(10), || {
        tasks() < 3
    })
    .unwrap();
}

#[test]
fn ten_thousand_services_are_taken_in_while_others_serve() {
    let Some(cluster) = testing::web("many", 3).stage() else {
        return;
    };
    let path = cluster.services_file("node1");
    let good = fs::read_to_string(&path).unwrap();
    let load = Plan::new_connections(&cluster.ports(8080), 50.0).start(&cluster.client());
    let mut many = good.clone();
    for number in 0..10_000 {
        let _ = write!(
            many,
            "  many{number}:\n    ports: [\"{}:80\"]\n    slots: 64\n    backends:\n      - {{ node: node2, address: 172.18.0.2 }}\n",
            10_000 + number
        );
    }
    services::replace(&path, &many).unwrap();
    wait::until(
        "all services are applied or the file is refused",
        Duration::from_secs(60),
        || {
            complaint(&cluster).is_some()
                || cluster.portico_json("node1", &["status"]).is_ok_and(|status| {
                    status["services"]["services"] == 10_001
                        && status["planes"][0]["report"]["generation"] == status["generation"]
                })
        },
    )
    .unwrap();
    assert_eq!(complaint(&cluster), None);
    load.wait_for(50).unwrap();
    services::replace(&path, &good).unwrap();
    wait::until("they are gone again", Duration::from_secs(60), || {
        cluster
            .portico_json("node1", &["status"])
            .is_ok_and(|status| status["services"]["services"] == 1)
    })
    .unwrap();
    load.stop().unwrap().assert_flawless();
}
