//! The eBPF plane against the kernel: what it writes, what it finds again, what it repairs. Each test has a network
//! namespace and a bpf file system of its own, which go with it. They need root: without it they fail in CI and say
//! SKIPPED elsewhere.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod lookup;
mod machine;
mod mixed;
mod portico0;
mod suspicion;

use std::net::TcpListener;

use aya::maps::{HashMap, Map, MapData};
use lb_common::key::{FlowKey, Front, TCP};
use lb_common::table::Flow;
use lb_userspace::model::{Affinity, Shape};
use lb_userspace::plane::Problem;
use machine::{Machine, Raw, pinned, services};
use socket2::SockRef;

#[test]
fn what_was_applied_is_adopted_by_the_next_agent() {
    machine::run(
        "what_was_applied_is_adopted_by_the_next_agent",
        |machine: Machine| {
            let first = machine.snapshot(&services(40, 5));
            let plane = machine.start("");
            plane.apply(&first).unwrap();
            assert_eq!(plane.check().unwrap(), []);
            drop(plane);
            let before = machine.pools();
            let plane = machine.start("");
            // Nothing is wanted yet, and nothing is taken away.
            assert_eq!(machine.pools(), before);
            plane.apply(&first).unwrap();
            assert_eq!(plane.check().unwrap(), []);
            assert_eq!(machine.pools(), before);
        },
    );
}

#[test]
fn services_that_went_while_no_agent_ran_are_taken_away_by_the_next() {
    machine::run(
        "services_that_went_while_no_agent_ran_are_taken_away_by_the_next",
        |machine| {
            let plane = machine.start("");
            plane.apply(&machine.snapshot(&services(10, 3))).unwrap();
            drop(plane);
            let plane = machine.start("");
            plane.apply(&machine.snapshot(&services(2, 3))).unwrap();
            assert_eq!(plane.check().unwrap(), []);
            assert_eq!(machine.pools().len(), 2);
        },
    );
}

#[test]
fn a_pool_grows_and_shrinks_through_every_size() {
    machine::run("a_pool_grows_and_shrinks_through_every_size", |machine| {
        let plane = machine.start("");
        for backends in [1, 4, 5, 40, 41, 3, 0, 17] {
            plane.apply(&machine.snapshot(&services(1, backends))).unwrap();
            assert_eq!(plane.check().unwrap(), [], "{backends} backends");
            assert_eq!(machine::refused(&plane), [], "{backends} backends");
        }
    });
}

#[test]
fn what_someone_else_changed_is_named_and_repaired() {
    machine::run("what_someone_else_changed_is_named_and_repaired", |machine| {
        let plane = machine.start("");
        plane.apply(&machine.snapshot(&services(2, 2))).unwrap();
        let mut fronts: HashMap<MapData, Raw<Front<[u8; 4]>>, u32> =
            HashMap::try_from(Map::from_map_data(pinned("FRONT4")).unwrap()).unwrap();
        let stray = Front::new([203, 0, 113, 9], [0, 80], TCP);
        fronts.insert(Raw(stray), 0, 0).unwrap();
        let found = plane.check().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].entry.starts_with("FRONT4") && found[0].repaired);
        assert_eq!(plane.check().unwrap(), []);
    });
}

#[test]
fn a_service_without_room_is_refused_and_named_and_the_others_serve() {
    machine::run(
        "a_service_without_room_is_refused_and_named_and_the_others_serve",
        |machine| {
            let plane = machine.start("[limits]\nslots = 8192\n");
            plane.apply(&machine.snapshot(&services(3, 2))).unwrap();
            let problems = machine::refused(&plane);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].fix.contains("limits.slots"), "{problems:?}");
            assert_eq!(machine.pools().len(), 2);
            // Room that others leave is used.
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            assert_eq!(machine::refused(&plane), []);
        },
    );
}

#[test]
fn a_device_that_leads_to_another_node_is_served_without_a_default_route() {
    machine::run(
        "a_device_that_leads_to_another_node_is_served_without_a_default_route",
        |machine| {
            machine.ip("link add under0 type veth peer name under1");
            machine.ip("address add 192.0.2.1/24 dev under0");
            machine.ip("link set under0 up");
            machine.ip("link set under1 up");
            let snapshot = machine.snapshot(&services(1, 2));
            let plane = machine.start("");
            plane.apply(&snapshot).unwrap();
            let served = plane.report().interfaces;
            assert_eq!(served.len(), 1, "{served:?}");
            assert_eq!((served[0].name.as_str(), served[0].tc), ("under0", true));
            drop(plane);
            let plane = machine.start("interfaces = [\"under1\"]\n");
            plane.apply(&snapshot).unwrap();
            let problems = plane.report().problems;
            let left_out =
                |problem: &Problem| problem.error.starts_with("under0 is not among the interfaces");
            assert!(problems.iter().any(left_out), "{problems:?}");
        },
    );
}

/// `services` of which the first few are left out.
fn services_from(first: u32, count: u32, backends: u32) -> String {
    let text = services(count, backends);
    let gone = text.find("services:\n").unwrap() + "services:\n".len();
    let kept = text.find(&format!("  s{first}:")).unwrap();
    format!("{}{}", &text[..gone], &text[kept..])
}

#[test]
fn room_that_a_service_leaves_is_taken_by_one_that_was_refused_in_the_same_breath() {
    for limits in ["slots = 8192", "members = 64", "fronts = 64"] {
        machine::run(
            "room_that_a_service_leaves_is_taken_by_one_that_was_refused_in_the_same_breath",
            |machine| {
                let plane = machine.start(&format!("[limits]\n{limits}\n"));
                // Three tables of 4096 slots; 96 members in rooms of 32; or 45 services of two fronts.
                let (count, backends) = match limits {
                    "members = 64" => (3, 32),
                    "fronts = 64" => (45, 1),
                    _ => (3, 2),
                };
                let enough = count * 2 / 3;
                plane
                    .apply(&machine.snapshot(&services(count, backends)))
                    .unwrap();
                assert_ne!(machine::refused(&plane), [], "{limits}");
                let rest = services_from(count - enough, count, backends);
                plane.apply(&machine.snapshot(&rest)).unwrap();
                assert_eq!(machine::refused(&plane), [], "{limits}");
                assert_eq!(machine.pools().len() as u32, enough, "{limits}");
                assert_eq!(plane.check().unwrap(), [], "{limits}");
            },
        );
    }
}

#[test]
fn what_is_said_to_be_enough_is_enough() {
    machine::run("what_is_said_to_be_enough_is_enough", |machine| {
        let snapshot = machine.snapshot(&services(45, 1));
        let plane = machine.start("[limits]\nfronts = 64\n");
        plane.apply(&snapshot).unwrap();
        let problems = machine::refused(&plane);
        let (_, advice) = problems[0].fix.split_once("portico.toml to ").unwrap();
        let enough: u32 = advice.split(' ').next().unwrap().parse().unwrap();
        drop(plane);
        let plane = machine.start(&format!("[limits]\nfronts = {enough}\n"));
        plane.apply(&snapshot).unwrap();
        assert_eq!(machine::refused(&plane), [], "{enough}");
    });
}

#[test]
fn listeners_of_the_node_that_there_is_no_room_for_are_counted_and_said() {
    machine::run(
        "listeners_of_the_node_that_there_is_no_room_for_are_counted_and_said",
        |machine| {
            machine.ip("link set lo up");
            // Those bound to a device are what the programs do not find by themselves.
            let listen = |last: u8| {
                let listener = TcpListener::bind(("127.0.0.".to_owned() + &last.to_string(), 8080)).unwrap();
                SockRef::from(&listener).bind_device(Some(b"lo")).unwrap();
                listener
            };
            let mut listeners: Vec<_> = (1..=70).map(listen).collect();
            let snapshot = machine.snapshot(&services(1, 1));
            let plane = machine.start("[limits]\nfronts = 64\n");
            plane.apply(&snapshot).unwrap();
            let problems = machine::refused(&plane);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].error.starts_with("no room for 6 of the 70 listeners"),
                "{problems:?}"
            );
            assert!(
                problems[0].fix.contains("limits.fronts in portico.toml to 70"),
                "{problems:?}"
            );
            // What others leave is used.
            listeners.truncate(64);
            plane.apply(&machine.snapshot(&services(2, 1))).unwrap();
            assert_eq!(machine::refused(&plane), []);
            assert_eq!(plane.check().unwrap(), []);
            listeners.extend((65..=70).map(listen));
            drop(plane);
            let plane = machine.start("[limits]\nfronts = 70\n");
            plane.apply(&snapshot).unwrap();
            assert_eq!(machine::refused(&plane), []);
        },
    );
}

#[test]
fn a_pool_without_room_to_grow_serves_with_the_members_it_has_room_for() {
    machine::run(
        "a_pool_without_room_to_grow_serves_with_the_members_it_has_room_for",
        |machine| {
            let plane = machine.start("[limits]\nmembers = 64\n");
            plane.apply(&machine.snapshot(&services(1, 40))).unwrap();
            assert_eq!(machine::refused(&plane), []);
            // 65 would need a room of 128.
            plane.apply(&machine.snapshot(&services(1, 65))).unwrap();
            assert_eq!(machine::refused(&plane).len(), 1);
            assert_eq!(plane.check().unwrap(), []);
            plane.apply(&machine.snapshot(&services(1, 64))).unwrap();
            assert_eq!(machine::refused(&plane), []);
            assert_eq!(plane.check().unwrap(), []);
        },
    );
}

#[test]
fn the_slots_in_use_are_found_again_even_when_the_tables_are_made_anew() {
    machine::run(
        "the_slots_in_use_are_found_again_even_when_the_tables_are_made_anew",
        |machine| {
            let text =
                services(1, 2).replace("    ports", "    slots: 1024\n    affinity: client-ip\n    ports");
            let snapshot = machine.snapshot(&text);
            let found = Shape {
                slots: 1024,
                affinity: Affinity::ClientIp,
            };
            let plane = machine.start("");
            assert!(plane.found_shapes().is_empty());
            plane.apply(&snapshot).unwrap();
            drop(plane);
            for limits in ["", "[limits]\npools = 100\n"] {
                let plane = machine.start(limits);
                assert_eq!(plane.found_shapes(), [(snapshot.pools[0].id, found)].into());
            }
        },
    );
}

#[test]
fn flows_outlive_a_change_of_the_tables_sizes() {
    machine::run("flows_outlive_a_change_of_the_tables_sizes", |machine| {
        let snapshot = machine.snapshot(&services(1, 1));
        let plane = machine.start("");
        plane.apply(&snapshot).unwrap();
        let tag = snapshot.pools[0].members[0].candidate.tag;
        let flow = Flow {
            tag,
            tick: u32::MAX / 2,
            ..Flow::default()
        };
        let key = FlowKey {
            client: [198, 51, 100, 1],
            front: [192, 0, 2, 1],
            client_port: [4, 0],
            front_port: [31, 144],
            protocol: TCP.into(),
        };
        machine::flows().insert(Raw(key), Raw(flow), 0).unwrap();
        drop(plane);
        let plane = machine.start("[limits]\nflows = 5000\nslots = 1048576\n");
        plane.apply(&snapshot).unwrap();
        assert_eq!(pinned("FLOW4").info().unwrap().max_entries(), 5000);
        assert_eq!(machine::flows().get(&Raw(key), 0).unwrap(), Raw(flow));
        assert_eq!(plane.check().unwrap(), []);
    });
}
