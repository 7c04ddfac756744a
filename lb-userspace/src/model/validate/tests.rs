use proptest::prelude::*;
use rstest::rstest;

use super::super::testing::{any_desired, backend, node, service, web};
use super::super::{Exposed, Frontend, Plane, Protocol};
use super::*;

fn problems(desired: &Desired) -> Vec<String> {
    validate(desired)
        .into_iter()
        .map(|fault| fault.problem.to_string())
        .collect()
}

fn exposed(port: u16, name: Option<&str>) -> Exposed {
    Exposed {
        port,
        protocol: Protocol::Tcp,
        name: name.map(Into::into),
    }
}

fn with_service(change: impl FnOnce(&mut DesiredService)) -> Desired {
    let mut service = service(8080, vec![backend("web.1", "node1")]);
    change(&mut service);
    let mut desired = web(vec![]);
    desired.services.insert("web".into(), Arc::new(service));
    desired
}

#[test]
fn a_plain_cluster_has_no_fault() {
    assert_eq!(problems(&web(vec![backend("web.1", "node1")])), [""; 0]);
}

#[test]
fn a_backend_on_an_unknown_node_is_told_the_nearest_node() {
    let faults = validate(&web(vec![backend("web.1", "nod1")]));
    assert_eq!(
        faults[0].place,
        Place::Backend {
            service: "web".into(),
            index: 0
        }
    );
    assert!(faults[0].problem.fix().starts_with("did you mean node1?"));
}

#[test]
fn one_port_belongs_to_one_service_but_tcp_and_udp_are_two_ports() {
    let mut desired = web(vec![]);
    desired
        .services
        .insert("zoo".into(), Arc::new(service(8080, vec![])));
    assert_eq!(
        problems(&desired),
        ["*:8080/tcp is published twice; service web has it already"]
    );
    let mut udp = service(8080, vec![]);
    udp.frontends[0].protocol = Protocol::Udp;
    desired.services.insert("zoo".into(), Arc::new(udp));
    assert_eq!(problems(&desired), [""; 0]);
}

#[rstest]
#[case(|s: &mut DesiredService| s.slots = 100, "slots: 100 is not a power of two from 64 to 1048576")]
#[case(|s: &mut DesiredService| s.slots = 32, "slots: 32 is not a power of two from 64 to 1048576")]
#[case(|s: &mut DesiredService| s.backends[0].weight = 0, "weight 0 is not within 1 to 256")]
#[case(|s: &mut DesiredService| s.backends[0].weight = 257, "weight 257 is not within 1 to 256")]
#[case(|s: &mut DesiredService| s.backends[0].addresses = vec![], "the backend has no address")]
#[case(|s: &mut DesiredService| s.backends[0].addresses.push([172, 18, 0, 3].into()), "the backend has two addresses of one family")]
#[case(|s: &mut DesiredService| s.backends[0].addresses = vec![[127, 0, 0, 1].into()],
    "127.0.0.1 is a loopback address, which every machine has for itself")]
#[case(|s: &mut DesiredService| s.backends[0].addresses = vec!["::ffff:10.0.0.1".parse().unwrap()],
    "::ffff:10.0.0.1 is an IPv4 address in disguise: write it as IPv4")]
#[case(|s: &mut DesiredService| s.backends.push(backend("web.1", "node2")), "backend web.1 is listed twice")]
#[case(|s: &mut DesiredService| s.backends.push(backend("web.2", "node1")), "backend web.2 is listed twice")]
#[case(|s: &mut DesiredService| s.frontends[0].port = 0, "0 is not a port")]
#[case(|s: &mut DesiredService| s.frontends[0].address = Some([192, 0, 2, 2].into()), "this is the address of node node2")]
#[case(|s: &mut DesiredService| s.health.as_mut().unwrap().timeout *= 2,
    "the health check's timeout must be more than nothing and not more than its interval")]
#[case(|s: &mut DesiredService| s.vips = vec![[192, 0, 2, 2].into()], "this is the address of node node2")]
#[case(|s: &mut DesiredService| s.exposed = vec![exposed(0, None)], "0 is not a port")]
#[case(|s: &mut DesiredService| s.exposed = vec![exposed(80, None), exposed(80, None)], "port 80/tcp is exposed twice")]
#[case(|s: &mut DesiredService| s.exposed = vec![exposed(80, Some("http")), exposed(81, Some("HTTP"))],
    "port 80/tcp is called HTTP already")]
#[case(|s: &mut DesiredService| s.exposed = vec![exposed(80, Some("_http"))], "`_http` cannot be asked for as a name")]
#[case(|s: &mut DesiredService| s.naming.aliases = vec!["a b".into()], "`a b` cannot be asked for as a name")]
#[case(|s: &mut DesiredService| s.naming.stack = Some("".into()), "`` cannot be asked for as a name")]
#[case(|s: &mut DesiredService| s.naming.networks.clear(), "without a network nobody could ask for the service")]
#[case(|s: &mut DesiredService| s.backends[0].names = vec!["-web".into()], "`-web` cannot be asked for as a name")]
fn what_cannot_be_carried_out_is_refused(#[case] change: fn(&mut DesiredService), #[case] problem: &str) {
    let desired = with_service(change);
    assert_eq!(problems(&desired), [problem]);
    assert!(
        validate(&desired)
            .iter()
            .all(|fault| !fault.problem.fix().is_empty())
    );
}

#[test]
fn one_name_may_be_that_of_two_services() {
    let mut desired = with_service(|service| service.naming.aliases = vec!["www".into()]);
    let mut zoo = service(8081, vec![]);
    zoo.naming.aliases = vec![
        "www".into(),
        "web".into(),
        "www.example.com".into(),
        "db_1".into(),
    ];
    desired.services.insert("zoo".into(), Arc::new(zoo));
    assert_eq!(problems(&desired), [""; 0]);
}

#[test]
fn equal_task_addresses_on_different_nodes_are_what_bridges_have() {
    let desired = web(vec![backend("web.1", "node1"), backend("web.2", "node2")]);
    assert_eq!(problems(&desired), [""; 0]);
}

#[test]
fn ebpf_alone_and_what_only_the_proxy_does_cannot_both_be() {
    let desired = with_service(|service| {
        service.proxy.plane = Plane::Ebpf;
        service.proxy.transparent = true;
        service.proxy.idle = Some(Duration::ZERO);
    });
    let expected = [
        "transparent connections are asked for, which only the proxy does, and eBPF alone is wanted",
        "the time for connecting and that of idle connections must be more than nothing",
    ];
    assert_eq!(problems(&desired), expected);
}

#[test]
fn two_nodes_cannot_have_one_address() {
    let mut desired = web(vec![]);
    desired.nodes.insert("zero".into(), node(1));
    assert_eq!(problems(&desired), ["node node1 has this address too"]);
}

proptest! {
    #[test]
    fn nothing_wanted_makes_it_panic(desired in any_desired(), slots in any::<u32>(), port in any::<u16>()) {
        let mut desired = desired;
        for service in desired.services.values_mut() {
            let service = Arc::make_mut(service);
            service.slots = slots;
            service.frontends.push(Frontend { address: None, port, protocol: Protocol::Udp, target_port: port, inside: false, held: false });
        }
        for fault in validate(&desired) {
            let _ = (fault.problem.to_string(), fault.problem.fix());
        }
    }
}
