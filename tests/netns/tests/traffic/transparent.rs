//! The proxy in the client's name: tasks see who asks them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use netns::client::http::{self, Connection};
use netns::client::udp;
use netns::{Service, address, testing};

const WEB: &str = "proxy: { transparent: true }";

#[test]
fn tasks_on_every_node_see_the_client_itself_by_every_node() {
    let web = Service::new(&testing::WEB).with(WEB);
    let cluster = testing::cluster("ownname").mode("proxy").service("web", web, 3);
    let Some(mut cluster) = cluster.stage() else {
        return;
    };
    let client = cluster.client();
    for target in cluster.ports(8080) {
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let local = client
                .run(|| -> std::io::Result<_> {
                    let mut connection = Connection::open(target, None)?;
                    let answer = connection.ask()?;
                    Ok((connection.local().unwrap(), answer))
                })
                .unwrap()
                .unwrap();
            let (own, answer) = local;
            assert_eq!(
                (answer.client, answer.port),
                (own.ip(), own.port()),
                "{target}: {}",
                answer.task
            );
            seen.insert(answer.task);
            let (task, by) = udp::ask(&client, target).unwrap();
            assert_eq!(by, own.ip(), "{target}: {task}, by UDP");
        }
        assert_eq!(seen.len(), 3, "{target}: {seen:?}");
    }
    // A port that two connections of one client have: the second one gets another, and the same address.
    let own = SocketAddr::new(address::CLIENT.v4.into(), 6000);
    let [one, two] =
        ["node1", "node2"].map(|node| SocketAddr::new(cluster.state.nodes[node].address(0).v4.into(), 8080));
    let pairs = client
        .run(|| -> std::io::Result<_> {
            let mut first = Connection::open_from(one, own)?;
            let mut second = Connection::open_from(two, own)?;
            Ok([first.ask()?, second.ask()?])
        })
        .unwrap()
        .unwrap();
    assert!(pairs.iter().all(|answer| answer.client == own.ip()), "{pairs:?}");
    // Without the wish the rules go, and connections are served as before.
    let held = client.run(|| {
        let mut held = Connection::open(one, None).unwrap();
        held.ask().unwrap();
        held
    });
    cluster.set_service("web", Service::new(&testing::WEB));
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    let rules = |cluster: &netns::Cluster| -> usize {
        let lists = cluster.nodes().into_iter().map(|node| {
            let rules =
                netns::tool::run(cluster.place(&node).command("ip").unwrap().args(["rule", "list"])).unwrap();
            rules
                .lines()
                .filter(|rule| rule.contains("ipproto tcp") && rule.contains("lookup 7950"))
                .count()
        });
        lists.sum()
    };
    let mut held = held.unwrap();
    held.ask().unwrap();
    assert_ne!(http::ask(&client, one).unwrap().client, own.ip());
    let is_the_last = || rules(&cluster) == 1;
    netns::wait::until(
        "all rules go but one",
        std::time::Duration::from_secs(30),
        is_the_last,
    )
    .unwrap();
    // That of the connection that goes on.
    held.ask().unwrap();
    drop(held);
    netns::wait::until("the last rule goes", std::time::Duration::from_secs(90), || {
        rules(&cluster) == 0
    })
    .unwrap();
}

/// The task hears both from one address and port, and has one way to answer.
#[test]
fn a_port_that_asks_a_task_by_both_planes_is_answered_by_the_node_that_it_asked() {
    let web = Service::new(&testing::WEB).with(WEB);
    let cluster = testing::cluster("oneport").mode("mixed").service("web", web, 3);
    let Some(cluster) = cluster.stage() else { return };
    let mut tasks = BTreeSet::new();
    for is_ipv6 in [false, true] {
        let targets = cluster.ports(8080).into_iter();
        let targets: Vec<SocketAddr> = targets.filter(|target| target.is_ipv6() == is_ipv6).collect();
        // Of the three it is the second that has no packet programs.
        for number in 0..16 {
            let own = SocketAddr::new(address::CLIENT.like(targets[0].ip()), 6000 + number);
            let (first, second) = if number % 2 == 0 { (0, 1) } else { (1, 0) };
            let asked = [first, second, 2, first, second, 2].map(|node| targets[node]);
            let answers = udp::ask_from(&cluster.client(), own, &asked)
                .unwrap_or_else(|error| panic!("from {own}: {error:#}"));
            let task = &answers[0].0;
            assert!(
                answers.iter().all(|answer| *answer == (task.clone(), own.ip())),
                "{own}: {answers:?}"
            );
            tasks.insert(task.clone());
        }
    }
    assert_eq!(tasks.len(), 3, "{tasks:?}");
}
