//! Geneve that is not ours, or not for us: dropped, and counted under its reason.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::geneve::{Tunnel, flag};
use lb_userspace::config::ClusterConfig;
use netns::client::geneve;
use netns::{Cluster, address, testing, wait};

const COUNT: u64 = 5;

fn cookie(cluster: &Cluster) -> u64 {
    let secret = cluster.secret();
    ClusterConfig {
        secret: secret.as_str().into(),
        ..ClusterConfig::default()
    }
    .keys()
    .cookie
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

/// Sends a packet some times and waits until node1 has counted each under `verdict`; nothing may reach a task.
fn counted(cluster: &Cluster, from: &str, payload: &[u8], verdict: &str) {
    let count = |name: &str| cluster.verdicts("node1").unwrap().get(name).copied().unwrap_or(0);
    let (before, delivered) = (count(verdict), count("delivered"));
    let node1: IpAddr = address::node(0, 1).v4.into();
    for _ in 0..COUNT {
        geneve::send(&cluster.place(from), node1, payload).unwrap();
    }
    let what = format!("{verdict} is counted for what {from} sent ({before} before)");
    wait::until(&what, Duration::from_secs(20), || {
        count(verdict) >= before + COUNT
    })
    .unwrap();
    assert_eq!(count("delivered"), delivered);
}

#[test]
fn what_is_not_ours_is_dropped_and_counted() {
    let Some(cluster) = testing::web("tunnel", 3).stage() else {
        return;
    };
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
    for length in 0..whole.len() {
        geneve::send(
            &cluster.place("node2"),
            address::node(0, 1).v4.into(),
            &whole[..length],
        )
        .unwrap();
    }
    let counted = || {
        let verdicts = cluster.verdicts("node1").unwrap();
        [
            "truncated",
            "bad_geneve",
            "bad_header",
            "wrong_cookie",
            "not_here",
        ]
        .iter()
        .filter_map(|name| verdicts.get(*name))
        .sum::<u64>()
    };
    wait::until("every cut packet is counted", Duration::from_secs(20), || {
        counted() >= whole.len() as u64
    })
    .unwrap();
    assert_eq!(cluster.counted("delivered").unwrap(), delivered);
}
