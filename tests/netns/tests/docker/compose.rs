//! Compose on one machine: `--scale` simply balances.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netns::client::http::Connection;
use netns::client::load::Plan;
use netns::{address, tool};

use crate::asker::Asker;
use crate::shop::{self, NODE, Shop, WEB};

#[test]
fn a_project_is_scaled_healed_followed_and_gone() {
    let Some(cluster) = shop::machine("compose").stage() else {
        return;
    };
    forbid_direct_access(&cluster);
    let shop = Shop::open(cluster, 3);
    scaling_under_load_loses_nothing_by_name_or_by_port(&shop);
    a_replica_that_cannot_answer_gets_nothing_until_it_can(&shop);
    containers_that_are_renamed_or_change_networks_are_followed(&shop);
    the_last_of_a_project_goes_with_it(&shop);
}

/// What Docker 28 adds for each container: nobody but its bridge may address it.
fn forbid_direct_access(cluster: &netns::Cluster) {
    let mut command = cluster.command(NODE, "iptables").unwrap();
    let rule = [
        "-t",
        "raw",
        "-A",
        "PREROUTING",
        "-d",
        "172.16.0.0/12",
        "!",
        "-i",
        "br-+",
        "-j",
        "DROP",
    ];
    tool::run(command.args(rule)).unwrap();
}

fn scaling_under_load_loses_nothing_by_name_or_by_port(shop: &Shop) {
    let mut everybody: BTreeSet<String> = shop.replicas().into_values().collect();
    let outside = Plan::new_connections(&[shop.published()], 60.0).start(&shop.cluster.client());
    let kept = Plan::keep_alive(&[shop.published()], 30.0).start(&shop.cluster.client());
    let inside = Asker::in_container(&shop.cluster, NODE, "asker", "shop_default", "http://web/", 40);
    let node = Asker::on_node(&shop.cluster, NODE, "http://web.shop/", 40);
    let go_on = || {
        outside.wait_for(60).unwrap();
        inside.wait_for(40);
        node.wait_for(40);
    };
    go_on();
    shop.scale(5);
    everybody.extend(shop.replicas().into_values());
    assert_eq!(everybody.len(), 5);
    go_on();
    shop.scale(2);
    go_on();

    let reports = [
        ("from outside by port", outside.stop().unwrap()),
        ("in a container by name", inside.stop(&shop.cluster)),
        ("on the node by name", node.stop(&shop.cluster)),
    ];
    for (who, report) in &reports {
        println!(
            "{who}: {} requests, the slowest took {:?}",
            report.requests(),
            report.slowest
        );
        report.assert_flawless();
        let served: BTreeSet<String> = report.tasks().into_iter().map(str::to_owned).collect();
        assert_eq!(served, everybody, "{who}: every replica serves");
    }
    kept.stop().unwrap().assert_flawless();
    let client = BTreeSet::from([IpAddr::from(address::CLIENT.v4)]);
    assert_eq!(reports[0].1.clients, client, "tasks see the client itself");
}

fn a_replica_that_cannot_answer_gets_nothing_until_it_can(shop: &Shop) {
    shop.scale(3);
    let replicas = shop.replicas();
    let all: BTreeSet<String> = replicas.values().cloned().collect();
    let first = &replicas["shop_web_1"];
    let without: BTreeSet<String> = all.iter().filter(|name| *name != first).cloned().collect();
    let is = |wanted: &'static str| {
        shop::wait_states(&shop.cluster, WEB, move |states| {
            states.get("shop_web_1").is_some_and(|state| state == wanted)
        })
    };
    let load = Plan::new_connections(&[shop.published()], 50.0).start(&shop.cluster.client());

    // Its own health check says no.
    shop.docker(&["exec", "shop_web_1", "/portico-task", "sick"]);
    is("unhealthy");
    assert_eq!(shop.answers(60), without);
    let shown = shop.cluster.portico(NODE, &["backend", "ls"]).unwrap();
    assert!(shown.contains("unhealthy"), "{shown}");
    shop.docker(&["exec", "shop_web_1", "/portico-task", "well"]);
    is("active");
    assert_eq!(shop.answers(60), all);
    load.wait_for(50).unwrap();
    load.stop().unwrap().assert_flawless();

    // It is paused: who asked it already waits, nobody else does.
    shop.docker(&["pause", "shop_web_1"]);
    is("unhealthy");
    assert_eq!(shop.answers(60), without);
    shop.docker(&["unpause", "shop_web_1"]);
    is("active");
    assert_eq!(shop.answers(60), all);

    // It is killed: within a second nobody notices.
    let (target, client) = (shop.published(), shop.cluster.client());
    shop.docker(&["update", "--restart", "no", "shop_web_1"]);
    shop.docker(&["kill", "shop_web_1"]);
    let killed = Instant::now();
    let mut last = None;
    let mut asked = 0;
    while killed.elapsed() < Duration::from_secs(3) {
        let patience = Duration::from_millis(400);
        let answer = client
            .run(|| Connection::open_with(target, None, patience).and_then(|mut own| own.ask()))
            .unwrap();
        asked += 1;
        match answer {
            Ok(answer) => assert_ne!(&answer.task, first),
            Err(error) => last = Some((killed.elapsed(), error)),
        }
    }
    println!("after docker kill {asked} were asked, the last failure was {last:?}");
    assert!(asked > 100);
    if let Some((late, error)) = last {
        assert!(late < Duration::from_secs(1), "{error} after {late:?}");
    }
    shop::wait_states(&shop.cluster, WEB, |states| !states.contains_key("shop_web_1"));
    shop.docker(&["start", "shop_web_1"]);
    is("active");
    assert_eq!(shop.answers(60), all);
}

fn containers_that_are_renamed_or_change_networks_are_followed(shop: &Shop) {
    shop.scale(2);
    let cluster = &shop.cluster;
    let replicas = shop.replicas();
    let all: BTreeSet<String> = replicas.values().cloned().collect();
    let (first, second) = (&replicas["shop_web_1"], &replicas["shop_web_2"]);
    let load = Plan::new_connections(&[shop.published()], 50.0).start(&cluster.client());

    // It stays the same task, so that its connections go on, and is found by its new name.
    shop.docker(&["rename", "shop_web_1", "front-door"]);
    shop::wait_named(cluster, WEB, "front-door");
    assert_eq!(shop.answers(60), all);

    // Off its network it cannot be reached, on another it can.
    shop.docker(&["network", "create", "side"]);
    shop.docker(&["network", "disconnect", "shop_default", "front-door"]);
    shop::wait_answers(cluster, shop.published(), |answers| {
        *answers == BTreeSet::from([second.clone()])
    });
    shop.docker(&["network", "connect", "side", "front-door"]);
    shop::wait_served(cluster, WEB, 2);
    shop::wait_answers(cluster, shop.published(), |answers| *answers == all);
    shop.docker(&["network", "connect", "shop_default", "front-door"]);
    shop.docker(&["network", "disconnect", "side", "front-door"]);
    shop::wait_served(cluster, WEB, 2);
    shop::wait_answers(cluster, shop.published(), |answers| *answers == all);
    let report = load.stop().unwrap();
    println!("{}, all told", report.complaint());
    assert!(report.of_task(first) > 0 && report.of_task(second) > 0);
}

fn the_last_of_a_project_goes_with_it(shop: &Shop) {
    shop.compose(&["down"]);
    shop::wait_states(&shop.cluster, WEB, |states| states.is_empty());
    let services = shop.cluster.portico(NODE, &["service", "ls"]).unwrap();
    assert!(!services.contains(WEB), "{services}");
    let error = shop
        .cluster
        .client()
        .run(|| Connection::open(shop.published(), None).map(drop))
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
