//! `portico0` against the kernel: made, kept as it should be, adopted.

use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use lb_common::key::{Front, TCP};
use lb_userspace::plane::{EbpfPlane, Portico0Report, Problem};

use crate::machine::{self, Machine, Raw, services};

/// A link to the other node, with this node's address.
fn with_uplink(machine: &Machine) {
    machine.ip("link add under0 type veth peer name under1");
    machine.ip("address add 192.0.2.1/24 dev under0");
    machine.ip("address add 2001:db8:2::1/64 dev under0 nodad");
    machine.ip("link set under0 up");
    machine.ip("link set under1 up");
}

fn is_whole(report: &Portico0Report) -> bool {
    report.up && report.attached && report.wanted > 0 && report.routes == report.wanted
}

fn until(plane: &EbpfPlane, what: &str, holds: impl Fn(&Portico0Report) -> bool) -> Portico0Report {
    let began = Instant::now();
    loop {
        let report = plane.report().portico0;
        if holds(&report) {
            return report;
        }
        let problems = plane.report().problems;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{what}: {report:?} {problems:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What `ip` prints.
fn shown(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn index() -> String {
    shown("-o link show portico0")
        .split(':')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn the_nodes_own_way_to_the_vips_is_made_and_leads_there() {
    machine::run(
        "the_nodes_own_way_to_the_vips_is_made_and_leads_there",
        |machine| {
            with_uplink(&machine);
            let plane = machine.start("[dns]\nlisten = [\"169.254.20.10:53\", \"192.0.2.1:53\"]\n");
            // The resolver's address needs no snapshot.
            let resolver = vec![std::net::IpAddr::from([169, 254, 20, 10])];
            until(&plane, "an address", |report| report.addresses == resolver);
            let text = services(1, 2).replace("    ports", "    vips: [198.51.100.80]\n    ports");
            plane.apply(&machine.snapshot(&text)).unwrap();
            until(&plane, "routes", is_whole);
            for (vip, source) in [
                ("10.254.1.2", "192.0.2.1"),
                ("198.51.100.80", "192.0.2.1"),
                ("169.254.20.11", "192.0.2.1"),
                ("fdfe:706f:7274::9", "2001:db8:2::1"),
                ("fd70:6f72:7469:636f::11", "2001:db8:2::1"),
            ] {
                let route = shown(&format!("route get {vip}"));
                assert!(route.contains("dev portico0"), "{route}");
                assert!(route.contains(&format!("src {source}")), "{route}");
            }
            assert_eq!(shown("-o address show dev portico0").lines().count(), 1);
            // A VIP that goes takes its route along; the resolver stays.
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            let gone = |_: &Portico0Report| !shown("route get 198.51.100.80").contains("portico0");
            until(&plane, "a route gone", gone);
            until(&plane, "the others", |report| {
                is_whole(report) && report.addresses == resolver
            });
        },
    );
}

#[test]
fn what_somebody_did_to_portico0_is_undone_within_a_second_or_two() {
    machine::run(
        "what_somebody_did_to_portico0_is_undone_within_a_second_or_two",
        |machine| {
            with_uplink(&machine);
            let plane = machine.start("");
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            until(&plane, "at first", is_whole);
            let before = index();
            for harm in [
                "link del portico0",
                "link set portico0 down",
                "link set portico1 down",
                "link set portico0 arp on",
                "link set portico0 address 02:00:00:00:00:01",
                "route del 10.254.0.0/16",
                "route flush dev portico0",
                "route change 10.254.0.0/16 dev portico0 proto 112 scope link mtu 1000",
                "-6 route change fdfe:706f:7274::/112 dev portico0 proto 112 mtu 1280",
                "link set portico1 name other0",
            ] {
                machine.ip(harm);
                let again = |report: &Portico0Report| {
                    let route = shown("route get 10.254.1.2");
                    is_whole(report) && route.contains("portico0")
                };
                // The agent's next look, and one of a second later.
                std::thread::sleep(Duration::from_millis(30));
                until(&plane, harm, again);
                // Flows remember the device by its index.
                let after = index();
                assert!(
                    after == before || harm.ends_with("other0"),
                    "{harm}: {before} {after}"
                );
            }
        },
    );
}

#[test]
fn portico0_outlives_its_agent_and_is_adopted() {
    machine::run("portico0_outlives_its_agent_and_is_adopted", |machine| {
        with_uplink(&machine);
        let snapshot = machine.snapshot(&services(1, 2));
        let plane = machine.start("");
        plane.apply(&snapshot).unwrap();
        until(&plane, "at first", is_whole);
        let before = index();
        let routes = shown("route show dev portico0");
        drop(plane);
        assert_eq!(
            (index(), shown("route show dev portico0")),
            (before.clone(), routes.clone())
        );
        let plane = machine.start("");
        plane.apply(&snapshot).unwrap();
        until(&plane, "adopted", is_whole);
        assert_eq!((index(), shown("route show dev portico0")), (before, routes));
        assert_eq!(plane.check().unwrap(), []);
        drop(plane);
        // Another configuration takes the routes of the old one away.
        let plane = machine.start("[vip]\npool = [\"10.253.0.0/16\"]\n");
        plane.apply(&snapshot).unwrap();
        let moved = |report: &Portico0Report| is_whole(report) && !shown("route show").contains("10.254.0.0");
        until(&plane, "moved", moved);
    });
}

#[test]
fn the_name_server_keeps_its_address_from_a_published_port() {
    machine::run(
        "the_name_server_keeps_its_address_from_a_published_port",
        |machine| {
            with_uplink(&machine);
            machine.ip("address add 192.0.2.7/24 dev under0");
            let plane = machine.start("[dns]\nlisten = [\"192.0.2.7:8080\"]\n");
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            let fronts: HashMap<MapData, Raw<Front<[u8; 4]>>, u32> =
                HashMap::try_from(Map::from_map_data(machine::pinned("FRONT4")).unwrap()).unwrap();
            let is_there = |last| {
                let front = Front::new([192, 0, 2, last], 8080_u16.to_be_bytes(), TCP);
                fronts.get(&Raw(front), 0).is_ok()
            };
            assert!(is_there(1) && !is_there(7));
            let problems = plane.report().problems;
            let named = |problem: &Problem| {
                problem
                    .error
                    .starts_with("192.0.2.7:8080 is where names are asked")
            };
            assert!(problems.iter().any(named), "{problems:?}");
        },
    );
}

#[test]
fn a_pool_that_collides_with_a_route_of_the_node_is_named() {
    machine::run(
        "a_pool_that_collides_with_a_route_of_the_node_is_named",
        |machine| {
            with_uplink(&machine);
            machine.ip("route add 10.254.3.0/24 via 192.0.2.9");
            machine.ip("route add fdfe:706f:7274::/112 dev under0");
            let plane = machine.start("");
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            until(&plane, "routes", is_whole);
            let problems = plane.report().problems;
            let named = |words: &str| problems.iter().any(|problem| problem.error.contains(words));
            assert!(named("the route to 10.254.3.0/24 by under0"), "{problems:?}");
            assert!(named("fdfe:706f:7274::/112"), "{problems:?}");
            // What is not taken goes to portico0.
            assert!(shown("route get 10.254.1.2").contains("portico0"));
            assert!(shown("route get 10.254.3.2").contains("under0"));
            assert!(shown("route get fdfe:706f:7274::2").contains("under0"));
            machine.ip("route del 10.254.3.0/24");
            machine.ip("route del fdfe:706f:7274::/112");
            let clear = |report: &Portico0Report| {
                let problems = plane.report().problems;
                is_whole(report) && !problems.iter().any(|problem| problem.error.contains("collide"))
            };
            until(&plane, "no collision", clear);
            // Nodes are not cut off.
            drop(plane);
            let plane = machine.start("[vip]\npool = [\"192.0.0.0/16\"]\n");
            plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
            until(&plane, "routes", is_whole);
            assert!(shown("route get 192.0.2.2").contains("under0"));
        },
    );
}
