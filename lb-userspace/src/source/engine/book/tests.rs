use std::time::Duration;

use bollard::models::{ContainerInspectResponse, EndpointResource};

use super::*;
use crate::source::engine::local::GATEWAY;

fn inspected(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> Inspected {
    let mut answer = serde_json::json!({
        "Id": id, "Name": format!("/{id}"), "Created": "2026-11-20T23:51:57Z",
        "State": { "Status": "running", "StartedAt": "1" },
        "Config": { "StopTimeout": 90, "StopSignal": "SIGUSR1", "Labels": {} },
        "HostConfig": { "NetworkMode": "bridge" },
        "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2", "Gateway": "172.17.0.1" } } },
    });
    change(&mut answer);
    let answer: ContainerInspectResponse = serde_json::from_value(answer).unwrap();
    translate::container(answer).unwrap()
}

fn stopping(book: &mut Book, id: &str) -> bool {
    book.picture();
    book.picture.containers[id].stopping
}

#[test]
fn a_stop_signal_is_believed_until_the_time_to_stop_is_over() {
    let (mut book, now) = (Book::default(), Instant::now());
    book.learn(inspected("a", |_| {}));
    assert!(!stopping(&mut book, "a"));
    book.signal("a", "1", now);
    assert_eq!(book.next_expiry(), None);
    book.signal("a", "10", now);
    assert!(stopping(&mut book, "a"));
    assert_eq!(book.next_expiry(), Some(now + Duration::from_secs(95)));
    // Looked at again, it is still the one that was told.
    book.learn(inspected("a", |_| {}));
    assert!(stopping(&mut book, "a"));
    book.expire(now + Duration::from_secs(95));
    assert!(!stopping(&mut book, "a"));
}

#[test]
fn one_that_was_started_again_has_not_been_told_to_stop() {
    let (mut book, now) = (Book::default(), Instant::now());
    book.learn(inspected("a", |_| {}));
    book.signal("a", "SIGTERM", now);
    book.learn(inspected("a", |answer| answer["State"]["StartedAt"] = "2".into()));
    assert!(!stopping(&mut book, "a"));
    book.signal("a", "9", now);
    book.learn(inspected("a", |answer| {
        answer["State"]["Status"] = "exited".into()
    }));
    assert!(!stopping(&mut book, "a"));
}

#[test]
fn who_shares_a_network_is_where_its_lender_is() {
    let mut book = Book::default();
    book.learn(inspected("lender", |_| {}));
    book.learn(inspected("guest", |answer| {
        answer["HostConfig"]["NetworkMode"] = "container:lender".into();
        answer["NetworkSettings"]["Networks"] = serde_json::json!({});
    }));
    let picture = book.picture().unwrap();
    let address: std::net::IpAddr = [172, 17, 0, 2].into();
    assert_eq!(
        picture.containers["guest"].networks["bridge"].addresses,
        [address]
    );
    // And goes where that goes.
    book.learn(inspected("lender", |answer| {
        answer["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "172.17.0.9".into();
    }));
    let picture = book.picture().unwrap();
    assert_eq!(
        picture.containers["guest"].networks["bridge"].addresses[0].to_string(),
        "172.17.0.9"
    );
}

#[test]
fn a_task_has_its_place_on_the_bridge_of_tasks() {
    let mut book = Book::default();
    book.learn(inspected("task", |answer| {
        answer["Config"]["Labels"] = serde_json::json!({ TASK: "x" });
    }));
    assert!(book.lacks_gateway());
    let place = EndpointResource {
        ipv4_address: Some("172.20.0.6/16".into()),
        ..Default::default()
    };
    let containers = [
        ("task".to_owned(), place),
        ("ingress-sbox".to_owned(), EndpointResource::default()),
    ];
    book.bridge(Some(NetworkInspect {
        containers: Some(containers.into()),
        ..Default::default()
    }));
    assert!(!book.lacks_gateway());
    let picture = book.picture().unwrap();
    assert_eq!(
        picture.containers["task"].networks[GATEWAY].addresses[0].to_string(),
        "172.20.0.6"
    );
}

#[test]
fn what_did_not_change_is_the_same_picture() {
    let mut book = Book::default();
    book.learn(inspected("a", |_| {}));
    book.learn(inspected("b", |_| {}));
    let before = book.picture().unwrap();
    book.learn(inspected("a", |_| {}));
    assert!(book.picture().is_none());
    book.learn(inspected("a", |answer| answer["Name"] = "/other".into()));
    let after = book.picture().unwrap();
    assert!(Arc::ptr_eq(&before.containers["b"], &after.containers["b"]));
    assert_eq!(&*after.containers["a"].name, "other");
    book.forget("b");
    assert_eq!(book.picture().unwrap().containers.len(), 1);
}
