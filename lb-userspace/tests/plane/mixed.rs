//! What the tables say while other nodes have no packet programs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aya::maps::{HashMap, Map, MapData};
use lb_common::key::{Front, TCP};
use lb_common::placement::State;
use lb_common::table::{
    BLOCK, BY_PROXY, GIVEN, HeadBlock, Member, NOBODY_ELSE, Pool, member_flag, pool_flag,
};
use lb_userspace::model::{Family, Snapshot, Standing};

use crate::machine::{self, Machine, Raw, pinned, services};
use crate::suspicion::{array, chains, file, tag};

/// The same with these nodes in `mode = "proxy"`.
fn proxying(snapshot: &Snapshot, nodes: &[&str]) -> Arc<Snapshot> {
    let mut snapshot = snapshot.clone();
    for node in snapshot.nodes.values_mut() {
        node.by_proxy = nodes.contains(&&*node.name);
    }
    Arc::new(snapshot)
}

/// A slot: whether it is the proxy's, and the node of the member that it names.
type Row = (bool, Option<u16>);

/// The only pool's slots, and its chains with the node of the runner-up.
fn shown(machine: &Machine) -> (Vec<Row>, Vec<[u16; 6]>) {
    let pool = machine.pools()[0].1;
    let (blocks, members) = (array::<HeadBlock>("HEAD"), array::<Member>("MEMBER"));
    let slots =
        (0..pool.slots / BLOCK).flat_map(|block| blocks.get(&(pool.head + block), 0).unwrap().0.member);
    let node = |offset: u16| {
        members
            .get(&(pool.members + u32::from(offset)), 0)
            .unwrap()
            .0
            .node
    };
    let rows = slots.map(|slot| {
        let offset = slot & !BY_PROXY;
        (
            slot & BY_PROXY != 0,
            (offset != NOBODY_ELSE).then(|| node(offset)),
        )
    });
    (rows.collect(), chains(&pool))
}

fn asks_host_first(machine: &Machine) -> bool {
    machine.pools()[0].1.flags & pool_flag::HOST_SOCKETS != 0
}

#[test]
fn slots_of_tasks_that_packets_do_not_reach_are_the_proxys_and_name_who_knows_of_the_past() {
    machine::run(
        "slots_of_tasks_that_packets_do_not_reach_are_the_proxys_and_name_who_knows_of_the_past",
        |machine| {
            let plane = machine.start("");
            let all = ["here", "there", "beyond", "here", "there", "beyond"].map(|node| (node, ""));
            let snapshot = machine.snapshot(&file(&all));
            let there = tag(&snapshot, "there");
            plane.apply(&snapshot).unwrap();
            let (before, chains) = shown(&machine);
            assert!(before.iter().all(|(by_proxy, _)| !by_proxy));
            assert!(chains.iter().any(|chain| chain.contains(&there)));
            assert!(!asks_host_first(&machine));

            plane.apply(&proxying(&snapshot, &["there"])).unwrap();
            let (during, chains) = shown(&machine);
            for (before, during) in before.iter().zip(&during) {
                if before.1 == Some(there) {
                    assert!(during.0 && during.1.is_some_and(|node| node != there));
                } else {
                    assert_eq!(before, during);
                }
            }
            assert!(during.iter().any(|(by_proxy, _)| *by_proxy));
            assert!(
                chains
                    .iter()
                    .all(|chain| chain[0] != 0 && !chain.contains(&there))
            );
            assert!(asks_host_first(&machine));
            assert_eq!(plane.check().unwrap(), []);

            plane.apply(&snapshot).unwrap();
            assert_eq!(shown(&machine).0, before);
            // Its proxy may still have connections.
            assert!(asks_host_first(&machine));
        },
    );
}

#[test]
fn where_packets_reach_no_task_every_slot_is_the_proxys_alone() {
    machine::run(
        "where_packets_reach_no_task_every_slot_is_the_proxys_alone",
        |machine| {
            let plane = machine.start("");
            let snapshot = machine.snapshot(&file(&[("there", ""), ("beyond", "")]));
            plane.apply(&proxying(&snapshot, &["there", "beyond"])).unwrap();
            assert!(shown(&machine).0.iter().all(|row| *row == (true, None)));
            assert_eq!(plane.check().unwrap(), []);
        },
    );
}

/// Numbers of the pools that have a flag.
fn flagged(machine: &Machine, flag: u32) -> Vec<u32> {
    let pools = machine.pools().into_iter();
    let flagged = pools.filter(|(_, pool)| pool.flags & flag != 0);
    flagged.map(|(number, _)| number).collect()
}

#[test]
fn every_pool_of_a_mixed_cluster_says_so_and_which_of_them_the_proxy_shares() {
    machine::run(
        "every_pool_of_a_mixed_cluster_says_so_and_which_of_them_the_proxy_shares",
        |machine| {
            let plane = machine.start("");
            let text = file(&[("here", ""), ("there", "")])
                + "  other:\n    ports: [\"8081:80/udp\"]\n    \
                   backends: [{ node: here, address: 172.18.0.9, task: o }]\n";
            let snapshot = machine.snapshot(&text);
            let mixed = proxying(&snapshot, &["there"]);
            let apply = |snapshot: &Arc<Snapshot>| {
                plane.apply(snapshot).unwrap();
                assert_eq!(plane.check().unwrap(), []);
                [pool_flag::MIXED, pool_flag::SHARED].map(|flag| flagged(&machine, flag).len())
            };
            assert_eq!(apply(&snapshot), [0, 0]);
            assert_eq!(apply(&mixed), [2, 1]);
            // Its own mode is no other node's.
            assert_eq!(apply(&proxying(&snapshot, &["here"])), [0, 0]);
            assert_eq!(apply(&mixed), [2, 1]);
            // Another program has the port.
            plane.set_taken([(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080, TCP)].into());
            assert_eq!(apply(&mixed), [2, 0]);
            plane.set_taken([].into());
            assert_eq!(apply(&mixed), [2, 1]);
            assert_eq!(apply(&snapshot), [0, 0]);
        },
    );
}

#[test]
fn a_pool_whose_tasks_the_proxy_may_ask_in_their_clients_names_says_so_while_it_may() {
    machine::run(
        "a_pool_whose_tasks_the_proxy_may_ask_in_their_clients_names_says_so_while_it_may",
        |machine| {
            let plane = machine.start("");
            let plain = file(&[("here", "")]);
            let asking = plain.replace("backends:", "proxy: { transparent: true }\n    backends:");
            assert_ne!(plain, asking);
            for (text, expected) in [(&plain, 0), (&asking, 1), (&plain, 0)] {
                plane.apply(&machine.snapshot(text)).unwrap();
                assert_eq!(flagged(&machine, pool_flag::TRANSPARENT).len(), expected);
                assert_eq!(plane.check().unwrap(), []);
            }
        },
    );
}

/// The same with these tasks unhealthy.
fn ailing(snapshot: &Snapshot, tasks: &[&str]) -> Arc<Snapshot> {
    let mut snapshot = snapshot.clone();
    for service in snapshot.services.values_mut() {
        for backend in &mut Arc::make_mut(service).backends {
            if tasks.contains(&&*backend.task) {
                backend.standing = Standing::Unhealthy;
            }
        }
    }
    for pool in &mut snapshot.pools {
        for member in &mut Arc::make_mut(pool).members {
            if tasks.contains(&&*member.task) {
                member.candidate.state = State::Draining;
            }
        }
    }
    Arc::new(snapshot)
}

/// Nodes of the only pool's members, by offset, and whether datagrams leave them.
fn members(machine: &Machine) -> Vec<(u16, bool)> {
    let (members, pool): (_, Pool) = (array::<Member>("MEMBER"), machine.pools()[0].1);
    let room = pool.members..pool.members + pool.room;
    let all = room.map(|number| members.get(&number, 0).unwrap().0);
    let used = all.filter(|member| member.tag != 0);
    used.map(|member| (member.node, member.flags & member_flag::LEFT != 0))
        .collect()
}

#[test]
fn members_that_datagrams_leave_are_marked_and_keep_their_places() {
    machine::run(
        "members_that_datagrams_leave_are_marked_and_keep_their_places",
        |machine| {
            let plane = machine.start("");
            let snapshot = machine.snapshot(&file(&[("here", ""), ("there", ""), ("beyond", "")]));
            plane.apply(&snapshot).unwrap();
            let before = members(&machine);
            assert!(before.len() == 3 && before.iter().all(|(_, left)| !left));
            let left = |nodes: &[&str]| {
                let nodes: Vec<u16> = nodes.iter().map(|node| tag(&snapshot, node)).collect();
                let marked = before.iter().map(|&(node, _)| (node, nodes.contains(&node)));
                marked.collect::<Vec<_>>()
            };
            plane.apply(&ailing(&snapshot, &["t0"])).unwrap();
            assert_eq!(members(&machine), left(&["here"]));
            plane.apply(&proxying(&snapshot, &["beyond"])).unwrap();
            assert_eq!(members(&machine), left(&["beyond"]));
            let both = proxying(&ailing(&snapshot, &["t1"]), &["beyond"]);
            plane.apply(&both).unwrap();
            assert_eq!(members(&machine), left(&["there", "beyond"]));
            assert_eq!(plane.check().unwrap(), []);
            drop(plane);
            // The next agent finds one that has recovered meanwhile.
            let plane = machine.start("");
            assert_eq!(members(&machine), left(&["there", "beyond"]));
            plane.apply(&proxying(&snapshot, &["beyond"])).unwrap();
            assert_eq!(members(&machine), left(&["beyond"]));
            plane.apply(&snapshot).unwrap();
            assert_eq!(members(&machine), before);
            assert_eq!(plane.check().unwrap(), []);
        },
    );
}

#[test]
fn members_that_datagrams_leave_are_marked_where_others_have_no_room() {
    machine::run(
        "members_that_datagrams_leave_are_marked_where_others_have_no_room",
        |machine| {
            let plane = machine.start("[limits]\nmembers = 64\n");
            plane.apply(&machine.snapshot(&services(1, 60))).unwrap();
            assert!(members(&machine).iter().all(|(_, left)| !left));
            // 65 would need a room of 128.
            let crowded = machine.snapshot(&services(1, 65));
            let left = |nodes: &[&str]| {
                plane.apply(&proxying(&crowded, nodes)).unwrap();
                assert_eq!(machine::refused(&plane).len(), 1);
                assert_eq!(plane.check().unwrap(), []);
                let members = members(&machine);
                let there = tag(&crowded, "there");
                let marked = members.iter().filter(|(node, left)| {
                    assert!(!left || *node == there);
                    *left
                });
                (
                    marked.count(),
                    members.iter().filter(|(node, _)| *node == there).count(),
                )
            };
            let (marked, there) = left(&["there"]);
            assert!(marked == there && there > 0, "{marked} of {there}");
            assert_eq!(left(&[]), (0, there));
            // There is room for these.
            assert_eq!(members(&machine).len(), 64);
        },
    );
}

/// One task at two addresses, or at the first alone.
fn families(addresses: &str) -> String {
    format!(
        "nodes: {{ here: 192.0.2.1, there: 192.0.2.2 }}\nservices:\n  web:\n    ports: [\"8080:80/tcp\"]\n    \
         backends: [{{ node: here, address: [{addresses}], task: one }}]\n"
    )
}

#[test]
fn a_family_that_gains_its_first_task_leaves_the_proxy_its_connections() {
    machine::run(
        "a_family_that_gains_its_first_task_leaves_the_proxy_its_connections",
        |machine| {
            let plane = machine.start("");
            let one = machine.snapshot(&families("172.18.0.2"));
            plane.apply(&one).unwrap();
            assert!(!asks_host_first(&machine));
            // Where clients of the other family are served until now.
            plane.set_open([(Family::V6, 8080)].into());
            let both = machine.snapshot(&families("172.18.0.2, \"2001:db8:18::2\""));
            plane.apply(&both).unwrap();
            let pools = machine.pools();
            assert_eq!(pools.len(), 2);
            let (_, newest) = pools.iter().max_by_key(|(number, _)| *number).unwrap();
            assert_ne!(newest.flags & pool_flag::HOST_SOCKETS, 0);
            let (_, oldest) = pools.iter().min_by_key(|(number, _)| *number).unwrap();
            assert_eq!(oldest.flags & pool_flag::HOST_SOCKETS, 0);
            assert_eq!(plane.check().unwrap(), []);
        },
    );
}

/// A frontend of every node in `FRONT4`.
fn is_given(port: u16) -> bool {
    let fronts: HashMap<MapData, Raw<Front<[u8; 4]>>, Raw<u32>> =
        HashMap::try_from(Map::from_map_data(pinned("FRONT4")).unwrap()).unwrap();
    let front = Front::new([0; 4], port.to_be_bytes(), TCP);
    fronts.get(&Raw(front), 0).unwrap().0 & GIVEN != 0
}

#[test]
fn where_the_proxy_cannot_serve_packet_programs_do_what_they_can() {
    machine::run(
        "where_the_proxy_cannot_serve_packet_programs_do_what_they_can",
        |machine| {
            let plane = machine.start("");
            let service = |name: &str, port: u16, rules: &str| {
                format!(
                    "  {name}:\n    ports: [\"{port}:80/tcp\"]\n{rules}    \
                     backends: [{{ node: here, address: 172.18.0.2 }}]\n"
                )
            };
            let text = [
                "nodes: { here: 192.0.2.1 }\nservices:\n".to_owned(),
                service("wish", 8080, "    plane: proxy\n"),
                service("need", 8081, "    proxy: { send: v1 }\n"),
            ];
            let snapshot = machine.snapshot(&text.concat());
            let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            for is_taken in [false, true, false] {
                let ports = [8080, 8081].into_iter().filter(|_| is_taken);
                plane.set_taken(ports.map(|port| (anywhere, port, TCP)).collect());
                // The same one: only where the proxy serves is news.
                plane.apply(&snapshot).unwrap();
                assert_eq!(is_given(8080), !is_taken);
                assert!(is_given(8081), "nobody else can tell tasks of their clients");
                assert_eq!(plane.check().unwrap(), []);
            }
        },
    );
}
