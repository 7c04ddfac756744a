//! Addresses that an orchestrator's own mesh has assigned lead containers to the service's VIP here.

use std::collections::BTreeSet;
use std::time::Duration;

use netns::testing::Stage;
use netns::{Service, testing, tool, wait};

use crate::support::caller::Caller;
use crate::support::near_and_far::{FAR, far, has_cgroups, hooked};

const ASSIGNED: &str = "10.0.1.2";

/// Two nodes, one task of `far` on each, and a container on the first that is on a network where the address is on-link and
/// nobody's, as on an overlay without IPVS.
fn stage(name: &str) -> Option<Stage> {
    let far = Service::new(&FAR).with(&format!("assigned: [{ASSIGNED}]"));
    let mut cluster = testing::cluster(name)
        .nodes(2)
        .service("near", Service::new(&["8080:80"]).vip(1), 0)
        .service("far", far, 2)
        .stage()?;
    if !has_cgroups(&cluster, name) {
        return None;
    }
    cluster.add_task("near", Some("node1")).unwrap();
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    hooked(&cluster);
    let place = cluster.place("near.1");
    let dead = [
        "link add dead type veth peer name gone",
        "link set dead up",
        "link set gone up",
    ];
    let lines = dead.map(str::to_owned).into_iter();
    let address = "address add 10.0.1.9/24 dev dead".to_owned();
    tool::ip(Some(place.name()), &lines.chain([address]).collect::<Vec<_>>()).unwrap();
    Some(cluster)
}

#[test]
fn a_container_that_asks_at_an_assigned_address_reaches_every_task_and_sees_whom_it_asked() {
    let Some(mut cluster) = stage("assigned") else {
        return;
    };
    let vip = far(&cluster).ip().to_string();
    let reach = |cluster: &Stage, host: &str| {
        let mut tasks = BTreeSet::new();
        for _ in 0..12 {
            let mut caller = Caller::connect(cluster, "near.1", host, 80);
            assert_eq!(caller.peer(), (host, 80));
            tasks.insert(caller.task());
        }
        for kind in ["udp", "udp-connected"] {
            let mut caller = Caller::start(cluster, "near.1", &[host, "80", kind]);
            if kind == "udp-connected" {
                assert_eq!(caller.peer(), (host, 80));
            }
            let said = caller.ask();
            let sender = (said["peer"].as_str(), said["port"].as_u64());
            assert_eq!(sender, (Some(host), Some(80)), "{kind}: {said}");
        }
        assert_eq!(tasks.len(), 2, "{tasks:?}");
    };
    reach(&cluster, ASSIGNED);
    reach(&cluster, "::ffff:10.0.1.2");
    let caller = Caller::connect(&cluster, "near.1", ASSIGNED, 80);
    assert_eq!(caller.leads_to(&cluster, "near.1"), format!("{vip}:80"));
    // Ports that are not served stay where they are, and so do processes of the node.
    for (place, port) in [("near.1", 81), ("near.1", 8081), ("node1", 80)] {
        let caller = Caller::start(&cluster, place, &[ASSIGNED, &port.to_string(), "udp-connected"]);
        assert_eq!(caller.peer(), (ASSIGNED, port));
        let own = caller.leads_by(&cluster, place);
        assert_eq!(own, format!("{ASSIGNED}:{port}"), "{place}");
    }
    // Without an agent it goes on; one that comes back adopts it, and follows the source.
    cluster.kill_agent("node1").unwrap();
    reach(&cluster, ASSIGNED);
    cluster.start_agent("node1").unwrap();
    cluster.wait_agents().unwrap();
    cluster.settle().unwrap();
    reach(&cluster, ASSIGNED);
    let check = cluster.portico("node1", &["check"]);
    let words = format!("{check:?}");
    assert!(!words.contains("ASSIGNED"), "{words}");
    cluster.state.services.get_mut("far").unwrap().more.clear();
    cluster.publish().unwrap();
    cluster.settle().unwrap();
    wait::until("nobody is led there", Duration::from_secs(10), || {
        let caller = Caller::start(&cluster, "near.1", &[ASSIGNED, "80", "udp-connected"]);
        caller.leads_by(&cluster, "near.1") == format!("{ASSIGNED}:80")
    })
    .unwrap();
}
