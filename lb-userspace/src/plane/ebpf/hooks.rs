//! Where each task of this node is plugged in: the host side of its device, found as the kernel would find it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use lb_common::host::{NODE_VIP4, NODE_VIP6};
use lb_common::table::{HOST_TASK, namespace};

use super::host::{Device, Host};
use super::tables::Hooked;
use crate::plane::Problem;

/// What is known of a task's device.
#[derive(Clone, Debug, PartialEq)]
pub enum Hook {
    Found(Hooked),
    /// The kernel has to ask on this device first.
    Unresolved(u32),
    /// Why it cannot be found.
    Nowhere(&'static str),
}

/// The far end of `portico0` for those clients of tasks in the node's own namespace that come that way, where the node's VIPs
/// lead there.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    pub device: u32,
    pub routed: BTreeSet<IpAddr>,
}

impl Behind {
    /// A task at `task`, an address of the node itself.
    fn host_task(&self, task: IpAddr) -> Hooked {
        let (vip, alone) = match task {
            IpAddr::V4(_) => (NODE_VIP4.into(), 32),
            IpAddr::V6(_) => (NODE_VIP6.into(), 128),
        };
        let behind = if self.routed.contains(&vip) {
            self.device
        } else {
            0
        };
        Hooked {
            device: HOST_TASK | behind,
            namespace: namespace::OWN,
            prefix: alone,
        }
    }
}

/// The device a packet to `task` leaves by: through a bridge its port, else the route's.
pub fn find(host: &Host, behind: &Behind, task: IpAddr) -> Hook {
    let Some(route) = host.routes.get(&task) else {
        return Hook::Nowhere("there is no route to it");
    };
    if route.local {
        return Hook::Found(behind.host_task(task));
    }
    if route.gateway.is_some() {
        return Hook::Nowhere("it is behind a router, not on this node");
    }
    let Some(device) = host.devices.get(&route.device) else {
        return Hook::Nowhere("its device is gone");
    };
    let index = if device.kind.as_deref() == Some("bridge") {
        let neighbour = host.neighbours.get(&(route.device, task));
        match neighbour.and_then(|neighbour| host.bridged.get(&(route.device, neighbour.mac))) {
            Some(&port) => port,
            None => return Hook::Unresolved(route.device),
        }
    } else {
        route.device
    };
    // Packets are handed to the other end of the pair, which must be in another namespace.
    let Some(namespace) = host.devices.get(&index).and_then(|port| port.peer_namespace) else {
        return Hook::Nowhere(
            "its device is not one end of a pair whose other end is in a namespace of its own",
        );
    };
    let alone = if task.is_ipv4() { 32 } else { 128 };
    let prefix = host.prefix(route.device, task).unwrap_or(alone);
    Hook::Found(Hooked {
        device: index,
        namespace,
        prefix,
    })
}

/// All tasks: those found, the questions to ask, and what is wrong.
#[derive(Debug, Default, PartialEq)]
pub struct Hooks {
    pub found: HashMap<IpAddr, Hooked>,
    pub unresolved: Vec<(u32, IpAddr)>,
    pub problems: Vec<Problem>,
}

/// Finds them all. A task that was found before keeps its device while that exists: a silent task drops out of the
/// bridge's memory, but not off the bridge. So does one whose way was not `asked` for yet.
pub fn find_all(
    host: &Host,
    behind: &Behind,
    asked: &BTreeSet<IpAddr>,
    tasks: impl IntoIterator<Item = IpAddr>,
    before: &HashMap<IpAddr, Hooked>,
) -> Hooks {
    let mut hooks = Hooks::default();
    for task in tasks {
        let kept = before.get(&task).filter(|hooked| still_there(host, hooked));
        if !asked.contains(&task) {
            hooks.found.extend(kept.map(|&hooked| (task, hooked)));
            continue;
        }
        match find(host, behind, task) {
            Hook::Found(hooked) => {
                hooks.found.insert(task, hooked);
            }
            Hook::Unresolved(device) => {
                hooks.unresolved.push((device, task));
                if let Some(&hooked) = kept {
                    hooks.found.insert(task, hooked);
                }
            }
            Hook::Nowhere(why) => hooks.problems.push(Problem {
                error: format!("cannot find the device of the task at {task}: {why}"),
                traffic: "the task gets no connections; its service's other tasks serve on".into(),
                fix: format!("check the task's address (ip route get {task})"),
            }),
        }
    }
    hooks
}

/// The devices the `task` program belongs on.
pub fn devices(found: &HashMap<IpAddr, Hooked>) -> HashSet<u32> {
    let with_device = found.values().filter(|hooked| !is_host_task(hooked));
    with_device.map(|hooked| hooked.device).collect()
}

/// Whether the task runs in the node's own network namespace.
pub const fn is_host_task(hooked: &Hooked) -> bool {
    hooked.device & HOST_TASK != 0
}

/// The devices by which tasks in the node's own namespace answer: out of the uplinks, to containers behind `bridges`, and to
/// tasks of `devices` that are on no bridge.
pub fn answering(
    host: &Host,
    uplinks: &HashSet<u32>,
    bridges: &BTreeSet<u32>,
    devices: &HashSet<u32>,
) -> BTreeSet<u32> {
    let alone = |index: &&u32| {
        let device = host.devices.get(index);
        device.is_some_and(|device| device.master.is_none())
    };
    let alone = devices.iter().filter(alone);
    uplinks.iter().chain(bridges).chain(alone).copied().collect()
}

/// The bridges behind which clients of this node are: with an address that their ports send to, and with no port that
/// leads to the network. `uplinks` are served as such.
pub fn bridges(host: &Host, uplinks: &HashSet<u32>) -> BTreeSet<u32> {
    let addressed = host.local_addresses();
    let bearing = host
        .addresses
        .iter()
        .filter(|address| addressed.contains(&address.ip))
        .map(|address| address.device);
    let outside: HashSet<u32> = host
        .devices
        .iter()
        .filter(|&(index, port)| uplinks.contains(index) || leads_outside(port))
        .flat_map(|(&index, port)| [Some(index), port.master])
        .flatten()
        .collect();
    let is_bridge = |index: &u32| {
        let device = host.devices.get(index);
        device.is_some_and(|device| device.kind.as_deref() == Some("bridge")) && !outside.contains(index)
    };
    bearing.filter(is_bridge).collect()
}

/// Hardware, or what stands for some of it.
fn leads_outside(device: &Device) -> bool {
    !device.loopback && matches!(device.kind.as_deref(), None | Some("bond" | "team" | "vlan"))
}

fn still_there(host: &Host, hooked: &Hooked) -> bool {
    if is_host_task(hooked) {
        return true;
    }
    host.devices.get(&hooked.device).is_some_and(|device| {
        device.up && device.peer_namespace.unwrap_or(namespace::UNKNOWN) == hooked.namespace
    })
}

#[cfg(test)]
mod tests {
    use lb_common::host::{ALONE, SHARED};

    use super::super::host::{Address, Neighbour, Route};
    use super::*;

    const TASK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 18, 0, 2));
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// A bridge (2) with a port (7) whose other end is in namespace 3.
    fn host() -> Host {
        let bridge = Device {
            kind: Some("bridge".into()),
            up: true,
            ..Device::default()
        };
        let port = Device {
            master: Some(2),
            peer_namespace: Some(3),
            up: true,
            ..Device::default()
        };
        let route = Route {
            device: 2,
            gateway: None,
            source: None,
            mtu: None,
            local: false,
        };
        Host {
            devices: [(2, bridge), (7, port)].into(),
            addresses: vec![Address {
                device: 2,
                ip: "172.18.0.1".parse().unwrap(),
                prefix: 16,
            }],
            neighbours: [(
                (2, TASK),
                Neighbour {
                    mac: MAC,
                    fresh: true,
                },
            )]
            .into(),
            bridged: [((2, MAC), 7)].into(),
            routes: [(TASK, route)].into(),
            ..Host::default()
        }
    }

    const FOUND: Hooked = Hooked {
        device: 7,
        namespace: 3,
        prefix: 16,
    };

    #[test]
    fn a_task_on_a_bridge_is_found_by_its_neighbour_entry_and_port() {
        assert_eq!(find(&host(), &Behind::default(), TASK), Hook::Found(FOUND));
    }

    #[test]
    fn a_task_on_a_link_of_its_own_is_found_by_the_route() {
        let mut host = host();
        host.routes.get_mut(&TASK).unwrap().device = 7;
        assert_eq!(
            find(&host, &Behind::default(), TASK),
            Hook::Found(Hooked { prefix: 32, ..FOUND })
        );
    }

    #[test]
    fn a_silent_task_keeps_its_device() {
        let mut host = host();
        host.bridged.clear();
        assert_eq!(find(&host, &Behind::default(), TASK), Hook::Unresolved(2));
        let hooks = find_all(
            &host,
            &Behind::default(),
            &[TASK].into(),
            [TASK],
            &[(TASK, FOUND)].into(),
        );
        assert_eq!(hooks.found, [(TASK, FOUND)].into());
        assert_eq!(hooks.unresolved, [(2, TASK)]);
    }

    #[test]
    fn a_task_whose_device_went_away_is_not_hooked_up() {
        let mut host = host();
        host.bridged.clear();
        host.devices.remove(&7);
        assert!(
            find_all(
                &host,
                &Behind::default(),
                &[TASK].into(),
                [TASK],
                &[(TASK, FOUND)].into()
            )
            .found
            .is_empty()
        );
    }

    #[test]
    fn after_a_restart_a_task_keeps_its_device_until_it_is_looked_for() {
        let mut host = host();
        host.routes.clear();
        let nobody = BTreeSet::new();
        let hooks = find_all(
            &host,
            &Behind::default(),
            &nobody,
            [TASK],
            &[(TASK, FOUND)].into(),
        );
        assert_eq!(hooks.found, [(TASK, FOUND)].into());
        assert!(hooks.problems.is_empty());
    }

    #[test]
    fn clients_are_behind_bridges_that_have_an_address_and_lead_nowhere_else() {
        let none = HashSet::new();
        let veth = |host: &mut Host| {
            let port = host.devices.get_mut(&7).unwrap();
            port.kind = Some("veth".into());
        };
        let mut host = host();
        veth(&mut host);
        assert_eq!(bridges(&host, &none), [2].into());
        // Itself an uplink, or with one as its port.
        assert!(bridges(&host, &[2].into()).is_empty());
        assert!(bridges(&host, &[7].into()).is_empty());
        host.devices.get_mut(&7).unwrap().kind = None;
        assert!(bridges(&host, &none).is_empty());
        veth(&mut host);
        // What every bridge has by itself is not an address that anybody would send to.
        host.addresses[0].ip = "fe80::1".parse().unwrap();
        assert!(bridges(&host, &none).is_empty());
    }

    #[test]
    fn an_address_on_a_bridge_alone_is_not_this_nodes_alone() {
        let mut host = host();
        let device = |name: &str| Device {
            name: name.into(),
            ..Device::default()
        };
        host.devices
            .extend([(3, device("eth0")), (4, device("portico0"))]);
        let address = |device, ip: &str| Address {
            device,
            ip: ip.parse().unwrap(),
            prefix: 24,
        };
        host.addresses.extend([
            address(3, "192.0.2.11"),
            address(4, "169.254.20.10"),
            address(4, "fd70:6f72:7469:636f::1:b"),
        ]);
        let own = host.own_addresses(&[2].into());
        let is = |ip: &str| own.get(&ip.parse().unwrap()).copied();
        assert_eq!(is("172.18.0.1"), Some(SHARED));
        assert_eq!(is("192.0.2.11"), Some(ALONE));
        // What the node is known by where it has no IPv6 address; the resolver's is the same on every node.
        assert_eq!(is("fd70:6f72:7469:636f::1:b"), Some(ALONE));
        assert_eq!(is("169.254.20.10"), None);
    }

    #[test]
    fn a_task_at_an_address_of_the_node_itself_has_no_device() {
        let mut host = host();
        host.routes.get_mut(&TASK).unwrap().local = true;
        let mut behind = Behind {
            device: 5,
            routed: BTreeSet::new(),
        };
        let found = |behind: &Behind| {
            let hooks = find_all(&host, behind, &[TASK].into(), [TASK], &HashMap::new());
            assert_eq!((hooks.found.len(), hooks.problems.len()), (1, 0));
            assert!(devices(&hooks.found).is_empty());
            hooks.found[&TASK]
        };
        let hooked = found(&behind);
        assert_eq!((hooked.device, hooked.namespace), (HOST_TASK, namespace::OWN));
        behind.routed.insert(NODE_VIP6.into());
        assert_eq!(found(&behind), hooked);
        behind.routed.insert(NODE_VIP4.into());
        assert_eq!(found(&behind).device, HOST_TASK | 5);
    }

    #[test]
    fn what_such_tasks_say_leaves_by_uplinks_bridges_and_devices_that_are_on_none() {
        let mut host = host();
        host.devices.insert(9, Device::default());
        let devices = HashSet::from([7, 9]);
        let answering = answering(&host, &[3].into(), &[2].into(), &devices);
        assert_eq!(answering, [2, 3, 9].into());
    }
}
