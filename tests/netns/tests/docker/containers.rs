//! Containers that nobody but their engine keeps: on its default bridge, in both families, on the node's own network.

use std::collections::BTreeSet;

use netns::client::http;
use netns::engine::IMAGE;
use netns::{Cluster, address};

use crate::shop::{self, NODE};

#[test]
fn single_containers_are_served_wherever_they_are() {
    let Some(cluster) = shop::machine("single").stage() else {
        return;
    };
    containers_without_compose_and_with_ipv6_are_served(&cluster);
    a_container_on_the_hosts_network_is_served(&cluster);
}

fn containers_without_compose_and_with_ipv6_are_served(cluster: &Cluster) {
    let docker = |arguments: &[&str]| cluster.docker(NODE, arguments).unwrap();
    let run = |name: &str, more: &[&str], command: &[&str]| {
        let options = ["run", "--detach", "--name", name];
        docker(&[&options[..], more, &[IMAGE], command].concat());
        cluster.hostname(NODE, name).unwrap()
    };
    // The default bridge, and an address in both families.
    let lone = run("lone", &["--label", "portico.ports=8081:80"], &[]);
    docker(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "2001:db8:19::/64",
        "both",
    ]);
    let options = [
        "--network",
        "both",
        "--label",
        "portico.ports=8082:80",
        "--label",
        "portico.service=pair",
    ];
    let pair: BTreeSet<String> = ["pair1", "pair2"]
        .iter()
        .map(|name| run(name, &options, &["--polite"]))
        .collect();
    shop::wait_served(cluster, "lone", 1);
    shop::wait_served(cluster, "pair", 2);
    assert_eq!(
        shop::answers(cluster, shop::published(cluster, 8081), 5),
        BTreeSet::from([lone])
    );
    for target in cluster.ports(8082) {
        assert_eq!(shop::answers(cluster, target, 60), pair, "{target}");
        let answer = http::ask(&cluster.client(), target).unwrap();
        assert_eq!(answer.client, address::CLIENT.like(target.ip()));
    }
}

fn a_container_on_the_hosts_network_is_served(cluster: &Cluster) {
    let options = [
        "--network",
        "host",
        "--no-healthcheck",
        "--label",
        "portico.ports=8083:9080",
    ];
    let name = ["run", "--detach", "--name", "host", "--env", "TASK=host"];
    let task = [IMAGE, "--port", "9080", "--echo-port", "9007"];
    cluster
        .docker(NODE, &[&name[..], &options, &task].concat())
        .unwrap();
    shop::wait_served(cluster, "host", 1);
    for target in cluster.ports(8083).into_iter().filter(|target| target.is_ipv4()) {
        let answer = http::ask(&cluster.client(), target).unwrap();
        assert_eq!(
            (answer.task.as_str(), answer.client),
            ("host", address::CLIENT.v4.into())
        );
    }
}
