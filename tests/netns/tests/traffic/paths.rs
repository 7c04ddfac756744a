//! Test 5 of flow-placement.md: ways that packets take when nodes, devices and addresses are awkward.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netns::client::http::Connection;
use netns::client::raw::Wire;
use netns::client::udp;
use netns::{Cluster, Service, address, testing, tool};

fn vips(number: u8, port: u16) -> [SocketAddr; 2] {
    address::vip(number).both().map(|vip| SocketAddr::new(vip, port))
}

/// A connection over a VIP to a task that is not on node1, and is the wanted one.
fn connect_to(cluster: &Cluster, target: SocketAddr, task: &str) -> Connection {
    let client = cluster.client();
    let open = || {
        (0..100).find_map(|_| {
            let mut connection = Connection::open(target, None).ok()?;
            (connection.ask().ok()?.task == task).then_some(connection)
        })
    };
    client
        .run(open)
        .unwrap()
        .unwrap_or_else(|| panic!("no connection to {task} by {target}"))
}

#[test]
fn a_download_goes_on_when_the_ingress_of_its_vip_dies() {
    let web = Service::new(&["8080:80"]).vip(1);
    let Some(cluster) = testing::cluster("ingressdies").service("web", web, 3).stage() else {
        return;
    };
    for target in vips(1, 8080) {
        cluster.send_vips(&["node1"]).unwrap();
        let mut connection = connect_to(&cluster, target, "web.3");
        let size = 64 << 20;
        connection.send(&format!("/bytes/{size}")).unwrap();
        let mut part = vec![0; 1 << 20];
        connection.stream().read_exact(&mut part).unwrap();
        cluster.set_wire("node1", 0, false).unwrap();
        cluster.send_vips(&["node2"]).unwrap();
        let mut seen = part.len();
        connection
            .stream()
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        while seen < size {
            let count = connection
                .stream()
                .read(&mut part)
                .unwrap_or_else(|error| panic!("after {seen}: {error}"));
            assert!(count > 0, "it ended after {seen} bytes");
            seen += count;
        }
        cluster.set_wire("node1", 0, true).unwrap();
        cluster.settle().unwrap();
    }
}

/// Strict is IPv4's: Linux has no such check for IPv6 but that of a firewall, which is not in the way here.
#[test]
fn a_reply_leaves_by_the_uplink_its_connection_came_by_under_strict_reverse_paths() {
    let web = Service::new(&["8080:80", "8080:80/udp"]).vip(1);
    let Some(cluster) = testing::cluster("uplinks")
        .uplinks(2)
        .service("web", web, 3)
        .stage()
    else {
        return;
    };
    let strict = [
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/default/rp_filter", "1"),
    ];
    cluster.router().sysctl(&strict).unwrap();
    for node in cluster.nodes() {
        cluster.place(&node).sysctl(&strict).unwrap();
    }
    cluster.settle().unwrap();
    let mut tasks = BTreeSet::new();
    for node in cluster.nodes() {
        // The router's way to the VIPs is the second underlay, the nodes' way back to the client the first.
        cluster.send_vips(&[&node]).unwrap();
        for target in vips(1, 8080) {
            for _ in 0..20 {
                tasks.insert(netns::client::http::ask(&cluster.client(), target).unwrap().task);
                tasks.insert(udp::ask(&cluster.client(), target).unwrap().0);
            }
        }
    }
    assert_eq!(tasks.len(), 3);
}

#[test]
fn a_client_with_an_address_of_the_tasks_subnet_is_served() {
    let Some(cluster) = testing::web("insubnet", 3).stage() else {
        return;
    };
    let inside = address::task(77);
    tool::ip(
        Some(cluster.client().name()),
        &[
            format!("addr add {}/32 dev lo", inside.v4),
            format!("addr add {}/128 dev lo nodad", inside.v6),
        ],
    )
    .unwrap();
    tool::ip(
        Some(cluster.router().name()),
        &[
            format!("route add {} via {}", inside.v4, address::CLIENT.v4),
            format!("route add {} via {}", inside.v6, address::CLIENT.v6),
        ],
    )
    .unwrap();
    for target in cluster.ports(8080) {
        let source = Some(inside.like(target.ip()));
        for _ in 0..20 {
            let answer = cluster
                .client()
                .run(|| Connection::open(target, source)?.ask())
                .unwrap();
            let answer = answer.unwrap_or_else(|error| panic!("{source:?} asked {target}: {error}"));
            assert_ne!(
                Some(answer.client),
                source,
                "{} would have answered on its own bridge",
                answer.task
            );
        }
    }
}

#[test]
fn a_task_reaches_its_own_service_on_every_node_itself_included() {
    let Some(cluster) = testing::cluster("hairpin")
        .service("web", Service::new(&["8080:80", "8080:80/udp"]), 3)
        .service("shop", Service::new(&["9090:80", "9090:80/udp"]).vip(1), 3)
        .stage()
    else {
        return;
    };
    cluster.masquerade().unwrap();
    let from = cluster.place("web.1");
    let ask = |target: SocketAddr| {
        netns::client::http::ask(&from, target)
            .unwrap_or_else(|error| panic!("web.1 asked {target}: {error:#}"))
    };
    let send = |target: SocketAddr| {
        udp::ask(&from, target).unwrap_or_else(|error| panic!("web.1 asked {target} over UDP: {error:#}"))
    };
    // Itself, a task on its own bridge, and tasks on nodes whose bridges have the same addresses.
    for target in cluster.ports(8080).into_iter().chain(vips(1, 9090)) {
        let tasks: BTreeSet<String> = (0..40).map(|_| ask(target).task).collect();
        assert_eq!(tasks.len(), 3, "{target}");
        let tasks: BTreeSet<String> = (0..40).map(|_| send(target).0).collect();
        assert_eq!(tasks.len(), 3, "{target} over UDP");
    }
}

/// Local flows have the clamped MSS too: their next packet may come by another node. Then they fill the path exactly:
/// nothing on the wires is larger than it, nothing is a fragment.
#[test]
fn a_local_flow_becomes_a_relayed_one_at_full_segment_size() {
    let web = Service::new(&["8080:80", "8007:7"]).vip(1);
    for offloads in [true, false] {
        let Some(cluster) = testing::cluster("relayed")
            .offloads(offloads)
            .service("web", web.clone(), 1)
            .stage()
        else {
            return;
        };
        for target in vips(1, 8007) {
            cluster.send_vips(&["node1"]).unwrap();
            let connection = cluster
                .client()
                .run(|| Connection::open(target, None))
                .unwrap()
                .unwrap();
            // 12 of its bytes are the time stamps' (RFC 7323), which this count leaves out.
            let mss = if target.is_ipv4() { 1388 } else { 1368 };
            assert_eq!(segment_size(&connection) + 12, mss, "{target}");
            let watch = Watch::start(&cluster, &["node1", "node2"]);
            echo(&connection, 4 << 20);
            cluster.send_vips(&["node2"]).unwrap();
            echo(&connection, 4 << 20);
            cluster.send_vips(&["node1"]).unwrap();
            echo(&connection, 4 << 20);
            assert_eq!(segment_size(&connection) + 12, mss, "{target}");
            let seen = watch.stop();
            assert_eq!(seen.fragments, 0, "{target}");
            // Where devices cut for the wire, they do so later.
            if !offloads {
                assert_eq!(seen.largest, 14 + 1500, "{target}");
            }
        }
    }
}

/// Sends so many bytes and reads them back.
fn echo(connection: &Connection, size: usize) {
    let bytes: Vec<u8> = (0..size).map(|number| number as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| connection.stream().write_all(&bytes).unwrap());
        let mut back = vec![0; size];
        connection.stream().read_exact(&mut back).unwrap();
        assert!(back == bytes, "the echo differs");
    });
}

/// What the client's kernel puts into a segment.
fn segment_size(connection: &Connection) -> u32 {
    // SAFETY: tcp_info is integers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`; the socket is open.
    let result = unsafe {
        libc::getsockopt(
            connection.stream().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    assert_eq!(result, 0);
    info.tcpi_snd_mss
}

/// What was seen of the frames that some nodes sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    largest: usize,
    fragments: usize,
}

/// Looks at every frame that some nodes send by their uplink. (What they receive has been merged before it is seen.)
struct Watch {
    stop: Arc<AtomicBool>,
    work: Vec<JoinHandle<Sizes>>,
}

impl Watch {
    fn start(cluster: &Cluster, nodes: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let look = |node: &&str| {
            let wire = Wire::open(&cluster.place(node), "eth0", &cluster.router(), node).unwrap();
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut sizes = Sizes::default();
                while !stop.load(Ordering::Relaxed) {
                    let _: Option<()> = wire.receive(Duration::from_millis(20), |frame| {
                        if frame.get(6..12) == Some(&wire.own) {
                            sizes.largest = sizes.largest.max(frame.len());
                            sizes.fragments += usize::from(is_fragment(frame));
                        }
                        None
                    });
                }
                sizes
            })
        };
        let work = nodes.iter().map(look).collect();
        Self { stop, work }
    }

    fn stop(self) -> Sizes {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.work.into_iter().map(|work| work.join().unwrap());
        seen.fold(Sizes::default(), |all, one| Sizes {
            largest: all.largest.max(one.largest),
            fragments: all.fragments + one.fragments,
        })
    }
}

/// IPv4: more fragments follow, or an offset. IPv6: a fragment header behind the first.
fn is_fragment(frame: &[u8]) -> bool {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, ip @ ..] if ip.len() >= 20 => {
            (ip[6] & 0x3f, ip[7]) != (0, 0)
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ip @ ..] => ip.get(6) == Some(&44),
        _ => false,
    }
}
