//! Sockets of the proxy at ports that other programs have: what is attached and pinned for them, and what the next agent finds.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lb_userspace::model::Protocol;
use lb_userspace::plane::proxy::Bind;
use socket2::SockRef;

use crate::machine::{self, services};

/// One that is the machine's own. As a VIP it is led to for its own processes, too.
const VIP: &str = "192.0.2.80:80";

fn bind(address: &str) -> Bind {
    Bind {
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

fn listener(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Whether a connection to the VIP comes to the first of these.
fn is_firsts(first: &TcpListener, second: &TcpListener) -> bool {
    let _client = TcpStream::connect(VIP).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for (listener, is_first) in [(first, true), (second, false)] {
            match listener.accept() {
                Ok(_) => return is_first,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    panic!("nobody has it");
}

#[test]
fn clients_are_led_past_another_program_until_that_is_not_wanted_any_more_by_the_next_agent() {
    let test = "clients_are_led_past_another_program_until_that_is_not_wanted_any_more_by_the_next_agent";
    machine::run(test, |machine| {
        machine.ip("link set lo up");
        machine.ip("address add 192.0.2.80/32 dev lo");
        let plane = machine.start("");
        plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
        let lookup = plane.beside().lookup.unwrap();
        let (other, own) = (listener("0.0.0.0:80"), listener("127.0.0.1:0"));
        assert!(is_firsts(&other, &own));
        assert!(!machine::pin("links/lookup").exists(), "nobody needs it");
        assert_eq!(plane.report().sockets.lookup_refused, None);

        lookup.lead(bind(VIP), own.as_fd()).unwrap();
        assert!(is_firsts(&own, &other));
        assert!(machine::pin("links/lookup").exists());
        // The agent's own ports are nobody else's.
        let refused = lookup.lead(bind("0.0.0.0:7950"), own.as_fd()).unwrap_err();
        assert_eq!(refused, "this agent itself listens there");

        std::fs::remove_file(machine::pin("links/lookup")).unwrap();
        // The kernel ends what nobody holds when it has the time.
        let end = Instant::now() + Duration::from_secs(10);
        while !is_firsts(&other, &own) {
            assert!(Instant::now() < end, "the program is attached");
        }
        let differences = plane.check().unwrap();
        let lost = differences
            .iter()
            .find(|difference| difference.wanted == "lookup");
        assert!(lost.unwrap().repaired, "{differences:?}");
        assert!(is_firsts(&own, &other));
        // Those who serve look each second, too.
        std::fs::remove_file(machine::pin("links/lookup")).unwrap();
        lookup.keep(&[bind(VIP)].into());
        assert!(is_firsts(&own, &other));
        std::fs::remove_file(machine::pin("links/lookup")).unwrap();
        lookup.keep(&[].into());
        assert_eq!(plane.check().unwrap(), [], "nobody needs it");
        lookup.lead(bind(VIP), own.as_fd()).unwrap();
        assert!(is_firsts(&own, &other));

        drop((lookup, plane));
        assert!(is_firsts(&own, &other), "an agent's end changes nothing");
        let plane = machine.start("");
        let lookup = plane.beside().lookup.unwrap();
        let cookie = SockRef::from(&own).cookie().unwrap();
        assert_eq!(lookup.found(), BTreeMap::from([(cookie, bind(VIP))]));
        lookup.keep(&[bind(VIP)].into());
        assert!(is_firsts(&own, &other));
        // Another socket takes its place.
        let next = listener("127.0.0.1:0");
        lookup.lead(bind(VIP), next.as_fd()).unwrap();
        assert!(is_firsts(&next, &own));
        lookup.keep(&[].into());
        assert!(is_firsts(&other, &next));
        assert!(!machine::pin("links/lookup").exists());
        assert_eq!(lookup.found(), BTreeMap::new());
    });
}

/// They mean the program that has the port, however early they come.
#[test]
fn an_agents_first_start_leads_nobody_of_its_own_node_past_another_program() {
    let test = "an_agents_first_start_leads_nobody_of_its_own_node_past_another_program";
    machine::run(test, |machine| {
        machine.ip("link set lo up");
        machine.ip("link add node0 type veth peer name node1");
        machine.ip("address add 192.0.2.80/24 dev node0");
        machine.ip("link set node0 up");
        machine.ip("link set node1 up");
        let plane = machine.start("");
        let (other, own) = (listener("0.0.0.0:80"), listener("127.0.0.1:0"));
        plane
            .beside()
            .lookup
            .unwrap()
            .lead(bind("0.0.0.0:80"), own.as_fd())
            .unwrap();
        assert!(is_firsts(&other, &own));
        plane.apply(&machine.snapshot(&services(1, 2))).unwrap();
        assert!(is_firsts(&other, &own));
    });
}
