//! Tasks without a network of their own: they are served at their node's address.

use super::Swarm;

/// Scaled and removed like any other service.
pub fn is_served_on_every_node(swarm: &Swarm) {
    // An engine rejects such tasks where the swarm itself publishes a port: a label does.
    let network = ["--network", "host", "--replicas-max-per-node", "1"];
    let ports = ["--label", "portico.ports=8084:80,8084:80/udp"];
    swarm.create("metal", &[&["--replicas", "2"][..], &network, &ports].concat());
    let two = swarm.wait_served("metal", 2);
    swarm.every_node_answers(8084, two.keys(), true);

    let load = swarm.load(8084);
    swarm.scale("metal", 3);
    let three = swarm.wait_served("metal", 3);
    load.go_on();
    swarm.scale("metal", 1);
    let one = swarm.wait_served("metal", 1);
    load.go_on();
    let answered = load.stop_flawless("scaled a service on the nodes' own network");
    assert_eq!(answered, three.into_keys().collect());
    swarm.every_node_answers(8084, one.keys(), true);
    swarm.remove("metal", 8084);
}
