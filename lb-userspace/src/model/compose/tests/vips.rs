//! Services with VIPs.

use super::*;

pub fn exposed(port: u16) -> Exposed {
    Exposed {
        port,
        protocol: Protocol::Tcp,
        name: None,
    }
}

/// With pools of both families.
pub fn agreed() -> Agreed {
    Agreed {
        identity: Identity::new(ID),
        pools: ["10.254.0.0/16", "fdfe:706f:7274::/112"]
            .map(|net| net.parse().unwrap())
            .into(),
    }
}

/// `web` on node1 and node2, its port 80 exposed, with pools of both families.
fn pooled(change: impl FnOnce(&mut DesiredService)) -> Snapshot {
    let mut service = service(8080, two());
    service.exposed = vec![exposed(80)];
    change(&mut service);
    let mut desired = web(vec![]);
    desired.services.insert("web".into(), Arc::new(service));
    let mut bench = Bench {
        composer: Composer::new(agreed(), ["file".into()], Drains::default()),
        now: Instant::now(),
    };
    bench.show(desired).unwrap()
}

fn frontends(snapshot: &Snapshot) -> Vec<String> {
    let frontends = snapshot.services["web"].frontends.iter();
    frontends.map(ToString::to_string).collect()
}

#[test]
fn a_service_answers_at_its_vip_by_the_ports_of_its_tasks() {
    let snapshot = pooled(|service| service.exposed.push(exposed(81)));
    let vip = snapshot.services["web"].vips[0];
    assert_eq!(
        frontends(&snapshot),
        [
            "*:8080/tcp".into(),
            format!("{vip}:80/tcp"),
            format!("{vip}:81/tcp")
        ]
    );
    let ports: Vec<_> = snapshot
        .pools
        .iter()
        .map(|pool| (pool.target_port, pool.members.len()))
        .collect();
    assert_eq!(ports, [(80, 2), (81, 2)]);
}

#[test]
fn only_a_vip_from_the_pools_is_for_clients_inside_alone() {
    let own: IpAddr = "10.254.3.4".parse().unwrap();
    let snapshot = pooled(|service| {
        service.vips = vec![own];
        service.backends[0].addresses.push("2001:db8::2".parse().unwrap());
    });
    for front in &snapshot.services["web"].frontends {
        let inside = front.address.is_some_and(|address| address.is_ipv6());
        assert_eq!(front.inside, inside, "{front}");
    }
}

#[test]
fn a_vip_is_not_in_use_in_a_family_that_only_the_other_has_tasks_in() {
    let v4 = pooled(|_| ());
    assert!(v4.services["web"].vips.iter().all(|vip| vip.is_ipv4()));
    let both = pooled(|service| service.backends[0].addresses.push("2001:db8::2".parse().unwrap()));
    assert_eq!(both.services["web"].vips.len(), 2);
    assert_eq!(both.services["web"].vips[0], v4.services["web"].vips[0]);
    let nobody = pooled(|service| service.backends.clear());
    assert_eq!(nobody.services["web"].vips, both.services["web"].vips);
}

#[test]
fn what_is_published_at_a_vip_goes_before_what_is_exposed_there() {
    let vip = IpAddr::from([198, 51, 100, 80]);
    let snapshot = pooled(|service| {
        service.vips = vec![vip];
        service.exposed.push(exposed(8080));
        service.frontends[0].address = Some(vip);
    });
    assert_eq!(
        frontends(&snapshot),
        [format!("{vip}:8080/tcp"), format!("{vip}:80/tcp")]
    );
    assert_eq!(snapshot.services["web"].frontends[0].target_port, 80);
}
