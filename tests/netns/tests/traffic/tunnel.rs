//! Geneve that is not ours, or not for us: dropped, and counted under its reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::geneve::{Tunnel, flag};
use lb_common::verdict::{Outcome, Verdict};
use lb_userspace::config::{self, ClusterConfig};
use lb_userspace::model::{Family, Identity};
use netns::client::geneve;
use netns::{Cluster, Service, address, testing, wait};

const COUNT: u64 = 5;

fn keys(cluster: &Cluster) -> config::Cluster {
    let secret = cluster.secret();
    ClusterConfig {
        secret: secret.as_str().into(),
        ..ClusterConfig::default()
    }
    .keys()
}

fn cookie(cluster: &Cluster) -> u64 {
    keys(cluster).cookie
}

/// The UDP payload: everything of the tunnel after its UDP header, and the inner packet.
fn payload(tunnel: &Tunnel, inner: &[u8]) -> Vec<u8> {
    let header = [
        &[tunnel.version_and_option_words, tunnel.control][..],
        &tunnel.protocol,
        &tunnel.vni,
        &[tunnel.reserved],
        &tunnel.class,
        &[tunnel.option_type, tunnel.option_words],
        &tunnel.cookie,
        &tunnel.member,
        &tunnel.ingress,
        &[tunnel.device, tunnel.flags],
        tunnel.list.as_flattened(),
        inner,
    ];
    header.concat()
}

fn from_client(port: u16) -> SocketAddr {
    SocketAddr::new(address::silent(1).v4.into(), port)
}

/// What a node dropped, by verdict.
fn drops(cluster: &Cluster, node: &str) -> BTreeMap<String, u64> {
    let dropped = |name: &String| {
        let verdict = Verdict::ALL.iter().find(|verdict| verdict.label() == name);
        verdict.is_some_and(|verdict| verdict.outcome() == Outcome::Dropped)
    };
    let mut counted = cluster.verdicts(node).unwrap();
    counted.retain(|name, _| dropped(name));
    counted
}

/// Sends a packet some times and waits until node1 has counted each under `verdict`: each once, nothing under another,
/// and nothing may reach a task.
fn counted(cluster: &Cluster, from: &str, payload: &[u8], verdict: &str) {
    let mut expected = drops(cluster, "node1");
    *expected.entry(verdict.to_owned()).or_default() += COUNT;
    let delivered = cluster.counted("delivered").unwrap();
    let node1: IpAddr = address::node(0, 1).v4.into();
    for _ in 0..COUNT {
        geneve::send(&cluster.place(from), node1, payload).unwrap();
    }
    let what = format!("{verdict} is counted for what {from} sent ({expected:?})");
    wait::until(&what, Duration::from_secs(20), || {
        drops(cluster, "node1") == expected
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", drops(cluster, "node1")));
    assert_eq!(cluster.counted("delivered").unwrap(), delivered);
}

#[test]
fn what_is_not_ours_is_dropped_and_counted() {
    let staged = testing::web("tunnel", 3)
        .service("none", Service::new(&["9090:80"]), 0)
        .service("lone", Service::new(&["9091:80"]), 0)
        .stage();
    let Some(mut cluster) = staged else { return };
    cluster.add_task("lone", Some("node3")).unwrap();
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    let front = SocketAddr::new(address::node(0, 1).v4.into(), 8080);
    let inner = geneve::inner(from_client(4000), front);
    let ours = Tunnel::new(cookie(&cluster), 0x0800, inner.len() as u16, 7, 0);

    counted(&cluster, "client", &payload(&ours, &inner), "unknown_peer");
    let stray = Tunnel {
        cookie: [7; 8],
        ..ours
    };
    counted(&cluster, "node2", &payload(&stray, &inner), "wrong_cookie");
    let foreign = Tunnel {
        class: [0, 1],
        ..ours
    };
    counted(&cluster, "node2", &payload(&foreign, &inner), "bad_geneve");
    let nowhere = geneve::inner(
        from_client(4000),
        SocketAddr::new(address::node(0, 1).v4.into(), 9999),
    );
    counted(&cluster, "node2", &payload(&ours, &nowhere), "not_here");
    let reply = Tunnel {
        flags: flag::REPLY,
        ..ours
    };
    let forged = geneve::inner(
        SocketAddr::new(address::node(0, 2).v4.into(), 9999),
        from_client(4000),
    );
    counted(&cluster, "node2", &payload(&reply, &forged), "forged_reply");

    // A backend that is not here: one of a service that has none, and one of a service that has another elsewhere, to
    // which a packet that has moved already is not sent.
    for (service, port, flags, verdict) in [
        ("none", 9090, 0, "not_here"),
        ("lone", 9091, flag::MOVED, "not_listening"),
    ] {
        let front = SocketAddr::new(address::node(0, 1).v4.into(), port);
        let inner = geneve::inner(from_client(4000), front);
        let pool = Identity::new(keys(&cluster).identity).pool(service, 80, Family::V4);
        let stranger = Tunnel {
            member: [7; 8],
            flags,
            ..Tunnel::new(cookie(&cluster), 0x0800, inner.len() as u16, 7, pool)
        };
        counted(&cluster, "node2", &payload(&stranger, &inner), verdict);
    }
}

#[test]
fn a_tunnel_packet_cut_at_any_length_harms_nobody() {
    let Some(cluster) = testing::web("cut", 3).stage() else {
        return;
    };
    let front = SocketAddr::new(address::node(0, 1).v4.into(), 8080);
    let inner = geneve::inner(from_client(4000), front);
    let ours = Tunnel::new(cookie(&cluster), 0x0800, inner.len() as u16, 7, 0);
    let whole = payload(&ours, &inner);
    let delivered = cluster.counted("delivered").unwrap();
    let before: u64 = drops(&cluster, "node1").values().sum();
    for length in 0..whole.len() {
        geneve::send(
            &cluster.place("node2"),
            address::node(0, 1).v4.into(),
            &whole[..length],
        )
        .unwrap();
    }
    let counted = || drops(&cluster, "node1").values().sum::<u64>() - before;
    wait::until("every cut packet is counted", Duration::from_secs(20), || {
        counted() >= whole.len() as u64
    })
    .unwrap();
    assert_eq!(counted(), whole.len() as u64);
    assert_eq!(cluster.counted("delivered").unwrap(), delivered);
}
