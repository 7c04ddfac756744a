use std::net::{IpAddr, SocketAddr};

use lb_common::hash;
use lb_common::placement::{self, Candidate, State};
use lb_common::table::NO_MEMBER;
use rstest::rstest;

use super::*;
use crate::config::Mode;
use crate::model::{Affinity, Backend, Member, Naming, Node, Plane, Pool, Standing};

pub const SEED: u64 = 7;
const SLOTS: u32 = 64;

/// A snapshot of three nodes with `web` at port 8080, whose tasks have these addresses, one on each node in turn.
pub fn snapshot(tasks: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot {
        generation: 1,
        ..Snapshot::default()
    };
    for number in 1..=3u8 {
        let name: Arc<str> = format!("node{number}").into();
        let node = Node {
            name: Arc::clone(&name),
            tag: number.into(),
            address: Ipv4Addr::new(192, 0, 2, 10 + number),
            draining: false,
            suspected: false,
            by_proxy: false,
        };
        snapshot.nodes.insert(name, node);
    }
    let frontend = Frontend {
        address: None,
        port: 8080,
        protocol: Protocol::Tcp,
        target_port: 80,
        inside: false,
        held: false,
    };
    let service = Service {
        name: "web".into(),
        naming: Default::default(),
        vips: Vec::new(),
        missed_vips: Vec::new(),
        assigned: Vec::new(),
        exposed: Vec::new(),
        frontends: vec![frontend],
        slots: SLOTS,
        affinity: Affinity::None,
        wanted: None,
        health: None,
        backends: Vec::new(),
        proxy: Default::default(),
    };
    snapshot.services.insert("web".into(), Arc::new(service));
    for family in Family::ALL {
        let members = (0..).zip(tasks).filter_map(|(number, address)| {
            let address: IpAddr = address.parse().unwrap();
            (Family::of(address) == family).then(|| member(number, address))
        });
        snapshot.pools.push(Arc::new(Pool {
            id: family as u64,
            service: "web".into(),
            target_port: 80,
            family,
            slots: SLOTS,
            affinity: Affinity::None,
            frontends: vec![frontend],
            members: members.collect(),
        }));
    }
    snapshot
}

fn member(number: u16, address: IpAddr) -> Member {
    let node = number % 3 + 1;
    Member {
        task: format!("web.{number}").into(),
        node: format!("node{node}").into(),
        address,
        candidate: Candidate {
            tag: 1000 + u64::from(number),
            node,
            weight: 1,
            peak: 1,
            state: State::Active,
            first: 0,
            last: u64::MAX,
            seen_first: 0,
            seen_last: u64::MAX,
        },
    }
}

fn at(address: &str) -> Bind {
    Bind {
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

fn clients() -> impl Iterator<Item = SocketAddr> {
    (0..2000u16).map(|number| SocketAddr::new([198, 51, 100, (number % 251) as u8].into(), 20_000 + number))
}

/// As `node1` serves it, by the proxy alone.
pub fn fronts(snapshot: &Snapshot) -> Fronts {
    beside(snapshot, Mode::Proxy, &[])
}

/// The same with a mode, and addresses of these families.
fn beside(snapshot: &Snapshot, mode: Mode, families: &[Family]) -> Fronts {
    among(snapshot, mode, families, &[])
}

/// On a machine with these addresses.
fn among(snapshot: &Snapshot, mode: Mode, families: &[Family], own: &[&str]) -> Fronts {
    let here = Here {
        mode,
        without_ebpf: None,
    };
    let wants = Wants {
        node: "node1",
        seed: SEED,
        here: &here,
        families,
        own: &own.iter().map(|ip| ip.parse().unwrap()).collect(),
        lately: &|_| false,
    };
    Fronts::new(snapshot, &wants)
}

const TASKS: [&str; 4] = ["172.18.0.2", "172.18.0.2", "172.18.0.2", "172.18.0.3"];

#[rstest]
fn every_client_gets_the_member_that_the_tables_of_all_nodes_have_for_it(
    #[values(Affinity::None, Affinity::ClientIp)] affinity: Affinity,
    #[values((Protocol::Tcp, 6), (Protocol::Udp, 17))] (protocol, number): (Protocol, u8),
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(1, 3)] weight: u16,
) {
    let (tasks, bind) = match family {
        Family::V4 => (&TASKS[..], "0.0.0.0:8080"),
        Family::V6 => (
            &["2001:db8:18::2", "2001:db8:18::3", "2001:db8:18::4"][..],
            "[::]:8080",
        ),
    };
    let mut snapshot = snapshot(tasks);
    snapshot.pools.retain(|pool| pool.family == family);
    let pool = Arc::make_mut(&mut snapshot.pools[0]);
    pool.affinity = affinity;
    pool.frontends[0].protocol = protocol;
    pool.members[0].candidate.weight = weight;
    let candidates: Vec<Candidate> = pool.members.iter().map(|m| m.candidate).collect();
    change(&mut snapshot, |web| web.frontends[0].protocol = protocol);
    let mut heads = [NO_MEMBER; SLOTS as usize];
    placement::fill_heads(SEED, &candidates, &mut heads);
    let fronts = fronts(&snapshot);
    let bind = Bind { protocol, ..at(bind) };
    let front = fronts.get(&bind).unwrap();
    for mut client in clients() {
        // As the four bytes of both ports stand in a packet.
        let [a, b] = client.port().to_be_bytes();
        let (ports, number) = match affinity {
            Affinity::None => (u32::from_le_bytes([a, b, 0x1f, 0x90]), number),
            Affinity::ClientIp => (0, 0),
        };
        let IpAddr::V4(address) = client.ip() else {
            panic!("{client}")
        };
        let hash = match family {
            Family::V4 => hash::flow_hash(SEED, address.octets(), ports, number),
            Family::V6 => {
                let address = address.to_ipv6_compatible();
                client.set_ip(address.into());
                hash::flow_hash(SEED, address.octets(), ports, number)
            }
        };
        let wanted = &candidates[usize::from(heads[hash::slot(hash, SLOTS) as usize])];
        let chosen = front.choose(client, 8080, protocol, &[]).unwrap();
        assert_eq!(chosen.candidate.tag, wanted.tag, "{client}");
    }
}

#[test]
fn who_was_tried_in_vain_is_not_chosen_again() {
    let fronts = fronts(&snapshot(&TASKS));
    let front = fronts.get(&at("0.0.0.0:8080")).unwrap();
    for client in clients() {
        let mut tried = Vec::new();
        while let Some(member) = front.choose(client, 8080, Protocol::Tcp, &tried) {
            assert!(!tried.contains(&member.candidate.tag));
            tried.push(member.candidate.tag);
        }
        assert_eq!(tried.len(), TASKS.len());
    }
}

#[test]
fn suspected_nodes_are_avoided_while_others_have_tasks() {
    let mut snapshot = snapshot(&TASKS);
    snapshot.nodes.get_mut("node2").unwrap().suspected = true;
    let front = fronts(&snapshot);
    let front = front.get(&at("0.0.0.0:8080")).unwrap();
    let chosen = |client| front.choose(client, 8080, Protocol::Tcp, &[]).unwrap();
    assert!(clients().all(|client| &*chosen(client).node != "node2"));
    let member = |node: &str| {
        front
            .pool
            .members
            .iter()
            .find(|member| &*member.node == node)
            .unwrap()
    };
    assert!(front.avoids(member("node2").candidate.tag) && !front.avoids(member("node1").candidate.tag));
    for node in ["node1", "node3"] {
        snapshot.nodes.get_mut(node).unwrap().suspected = true;
    }
    // It is most likely this node that is cut off.
    let front = fronts(&snapshot);
    let front = front.get(&at("0.0.0.0:8080")).unwrap();
    let chosen = |client| front.choose(client, 8080, Protocol::Tcp, &[]).unwrap();
    assert!(clients().any(|client| &*chosen(client).node == "node2"));
    assert!(!front.avoids(front.pool.members[0].candidate.tag));
}

#[test]
fn clients_of_a_family_without_tasks_get_those_of_the_other() {
    let fronts = fronts(&snapshot(&TASKS));
    let front = fronts.get(&at("[::]:8080")).unwrap();
    let client = "[2001:db8::9]:40000".parse().unwrap();
    let member = front.choose(client, 8080, Protocol::Tcp, &[]).unwrap();
    assert!(member.address.is_ipv4());
}

#[test]
fn members_are_reached_here_or_by_their_node() {
    let fronts = fronts(&snapshot(&TASKS));
    let front = fronts.get(&at("0.0.0.0:8080")).unwrap();
    for client in clients() {
        let member = front.choose(client, 8080, Protocol::Tcp, &[]).unwrap();
        match front.place(member, "node1").unwrap() {
            Place::Here(address) => {
                assert_eq!(&*member.node, "node1");
                assert_eq!(address, SocketAddr::new(member.address, 80));
            }
            Place::There(node) => assert_eq!(node.name, member.node),
        }
    }
}

/// `web` with a backend for each of its tasks, as every snapshot has them.
fn whole(tasks: &[&str]) -> Snapshot {
    let mut snapshot = snapshot(tasks);
    let members = snapshot.pools.iter().flat_map(|pool| &pool.members);
    let backends = members.map(|member| Backend {
        tag: member.candidate.tag,
        task: Arc::clone(&member.task),
        names: Vec::new(),
        node: Arc::clone(&member.node),
        addresses: vec![member.address],
        attachments: Vec::new(),
        weight: 1,
        standing: Standing::Active,
        unready: None,
    });
    let backends = backends.collect();
    change(&mut snapshot, |web| web.backends = backends);
    snapshot.pools.retain(|pool| !pool.members.is_empty());
    snapshot
}

fn change(snapshot: &mut Snapshot, change: impl FnOnce(&mut Service)) {
    let web = snapshot.services.get_mut("web").unwrap();
    change(Arc::make_mut(web));
}

fn sorted(binds: impl Iterator<Item = Bind>) -> Vec<Bind> {
    let mut binds: Vec<Bind> = binds.collect();
    binds.sort();
    binds
}

#[test]
fn beside_packet_programs_it_serves_what_these_cannot() {
    let mut snapshot = whole(&TASKS);
    let fronts = beside(&snapshot, Mode::Auto, &Family::ALL);
    assert_eq!(sorted(fronts.served()), [at("[::]:8080")]);
    assert!(fronts.is_across(&at("[::]:8080")));
    // Nobody could know the machine by such an address.
    assert_eq!(beside(&snapshot, Mode::Auto, &[Family::V4]).served().count(), 0);
    change(&mut snapshot, |web| web.proxy.plane = Plane::Proxy);
    let fronts = beside(&snapshot, Mode::Auto, &[Family::V4]);
    assert_eq!(sorted(fronts.served()), [at("0.0.0.0:8080"), at("[::]:8080")]);
    assert!(!fronts.is_across(&at("[::]:8080")));
    change(&mut snapshot, |web| web.proxy.plane = Plane::Ebpf);
    assert_eq!(beside(&snapshot, Mode::Auto, &Family::ALL).binds().count(), 0);
}

#[test]
fn an_address_of_its_own_is_served_whole_where_any_port_of_it_is() {
    let mut snapshot = whole(&TASKS);
    change(&mut snapshot, |web| {
        web.naming = Naming::default();
        web.proxy.accept = vec!["192.0.2.0/24".parse().unwrap()];
        let mut vip = web.frontends[0];
        vip.address = Some([10, 254, 0, 1].into());
        let mut datagrams = vip;
        datagrams.protocol = Protocol::Udp;
        web.frontends = vec![vip, datagrams];
    });
    let fronts = beside(&snapshot, Mode::Auto, &Family::ALL);
    let vip = at("10.254.0.1:8080");
    assert_eq!(sorted(fronts.served()), [vip]);
    let datagrams = Bind {
        protocol: Protocol::Udp,
        ..vip
    };
    assert_eq!(sorted(fronts.binds()), [vip, datagrams]);
}

#[test]
fn of_the_two_highest_the_one_with_fewer_connections_for_its_weight_is_chosen() {
    let mut snapshot = snapshot(&TASKS);
    Arc::make_mut(&mut snapshot.pools[0]).members[1].candidate.weight = 3;
    let fronts = fronts(&snapshot);
    let front = fronts.get(&at("0.0.0.0:8080")).unwrap();
    let heavy = snapshot.pools[0].members[1].candidate.tag;
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for client in clients() {
        let load = |tag| counts.get(&tag).copied().unwrap_or_default();
        let chosen = front
            .choose_lighter(client, 8080, Protocol::Tcp, &[], load)
            .unwrap();
        let tag = chosen.candidate.tag;
        *counts.entry(tag).or_default() += 1;
        let head = front
            .choose(client, 8080, Protocol::Tcp, &[])
            .unwrap()
            .candidate
            .tag;
        let second = front
            .choose(client, 8080, Protocol::Tcp, &[head])
            .unwrap()
            .candidate
            .tag;
        assert!([head, second].contains(&tag), "other nodes look for it there");
    }
    // By hash alone they would differ by the square root of their number.
    for (tag, count) in &counts {
        let share = if *tag == heavy { 1000 } else { 1000 / 3 };
        assert!(count.abs_diff(share) < 10, "{counts:?}");
    }
}

#[test]
fn who_drains_is_not_the_lighter_one() {
    let mut snapshot = snapshot(&TASKS[..2]);
    let pool = Arc::make_mut(&mut snapshot.pools[0]);
    pool.members[0].candidate.state = State::Draining;
    let active = pool.members[1].candidate.tag;
    let fronts = fronts(&snapshot);
    let front = fronts.get(&at("0.0.0.0:8080")).unwrap();
    for client in clients() {
        let load = |tag| u64::from(tag == active);
        let chosen = front
            .choose_lighter(client, 8080, Protocol::Tcp, &[], load)
            .unwrap();
        assert_eq!(chosen.candidate.tag, active);
    }
}

#[test]
fn what_has_tasks_on_a_node_without_packet_programs_is_served_beside_them() {
    let mut snapshot = whole(&TASKS);
    snapshot.nodes.get_mut("node2").unwrap().by_proxy = true;
    let fronts = beside(&snapshot, Mode::Auto, &[Family::V4]);
    assert_eq!(sorted(fronts.served()), [at("0.0.0.0:8080")]);
    snapshot.nodes.get_mut("node2").unwrap().by_proxy = false;
    assert_eq!(beside(&snapshot, Mode::Auto, &[Family::V4]).served().count(), 0);
}

/// It is connected to in its clients' names, at a port that they would be led from to the proxy.
#[test]
fn nobody_is_led_past_what_may_be_a_task_on_the_network_of_the_node() {
    let snapshot = snapshot(&["192.0.2.11", "172.18.0.2"]);
    let target = snapshot.pools[0].target_port;
    let bind = |ip: &str, port| Bind {
        address: SocketAddr::new(ip.parse().unwrap(), port),
        protocol: Protocol::Tcp,
    };
    let led = |own: &[&str], bind| among(&snapshot, Mode::Ebpf, &Family::ALL, own).may_lead(&bind);
    let own = ["192.0.2.11", "127.0.0.1"];
    assert!(!led(&own, bind("0.0.0.0", target)));
    assert!(led(&own, bind("0.0.0.0", target + 1)));
    assert!(
        led(&own, bind("10.0.0.1", target)),
        "an address of the service alone"
    );
    assert!(led(&["192.0.2.19"], bind("0.0.0.0", target)), "of another node");
}
