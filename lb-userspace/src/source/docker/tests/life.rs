//! Containers that come, stop, change and go.

use super::*;

#[test]
fn a_renamed_container_is_the_same_task() {
    let mut converter = converter();
    let first = local([compose("shop", "web", 1)]);
    converter.convert(&first, Some(ADDRESS));
    let renamed = Container {
        name: "old_web".into(),
        ..compose("shop", "web", 1)
    };
    let second = with(&first, renamed);
    let (desired, _) = converter.convert(&second, Some(ADDRESS));
    let backend = &desired.services["shop_web"].backends[0];
    assert_eq!(
        (&*backend.task, &backend.names[..]),
        ("shop_web_1.shopweb1", &["old_web".into()][..])
    );
    // Who is given its former name is another task.
    let mut successor = compose("shop", "web", 1);
    successor.id = "0123456789abcdef".into();
    successor
        .networks
        .values_mut()
        .for_each(|place| *place = joined("172.18.0.9"));
    let third = with(&second, successor);
    let (desired, _) = converter.convert(&third, Some(ADDRESS));
    assert_eq!(
        tasks(&desired.services["shop_web"]),
        ["shop_web_1.0123456789ab", "shop_web_1.shopweb1"]
    );
    // And an agent that starts now calls them the same: their connections are theirs.
    let anew = Converter::new("node1".into(), None)
        .convert(&third, Some(ADDRESS))
        .0;
    assert_eq!(anew, desired);
}

fn published(container: Container) -> Container {
    let port = Published {
        address: None,
        port: Some(8080),
        protocol: Protocol::Tcp,
        target_port: 80,
    };
    Container {
        published: vec![port],
        ..container
    }
}

#[test]
fn a_stopped_project_leaves_its_port_to_whoever_runs() {
    let blue = |run| Container {
        run,
        created: 1,
        ..published(compose("blue", "web", 1))
    };
    let green = Container {
        created: 2,
        ..published(compose("green", "web", 2))
    };
    let fronts = |desired: &Desired| {
        let services = desired.services.values();
        services
            .map(|service| service.frontends.len())
            .collect::<Vec<_>>()
    };
    let (desired, notes) = convert([blue(Run::Ended), green.clone()]);
    assert_eq!((fronts(&desired), notes.len()), (vec![0, 1], 0));
    // Its name stays, and what answers inside.
    assert_eq!(desired.services["blue_web"].exposed.len(), 1);
    // One that was made and does not run yet wants it, and has to wait.
    let (desired, notes) = convert([blue(Run::Created), green]);
    assert_eq!((fronts(&desired), notes.len()), (vec![0, 1], 1));
    // While one is made anew it keeps what nobody else wants.
    let (desired, _) = convert([blue(Run::Created)]);
    assert_eq!(fronts(&desired), [1]);
}

#[test]
fn what_does_not_run_says_nothing_to_those_that_do() {
    let mut old = compose("shop", "web", 1);
    label(&mut old, "portico.ports", "8080:80");
    let mut failed = Container {
        run: Run::Created,
        ..compose("shop", "web", 2)
    };
    label(&mut failed, "portico.ports", "9090:80");
    let (desired, _) = convert([old, failed]);
    assert_eq!(desired.services["shop_web"].frontends[0].port, 8080);
}

#[test]
fn a_compose_service_stays_while_it_is_stopped_and_goes_with_its_containers() {
    let mut converter = converter();
    let ended = Container {
        run: Run::Ended,
        ..compose("shop", "web", 1)
    };
    let (desired, _) = converter.convert(&local([ended]), Some(ADDRESS));
    assert_eq!(desired.services["shop_web"].backends, []);
    let (desired, _) = converter.convert(&local([]), Some(ADDRESS));
    assert_eq!((desired.services.len(), desired.order.len()), (0, 0));
    let ended = Container {
        run: Run::Ended,
        ..container("a", "job", "")
    };
    assert_eq!(
        converter.convert(&local([ended]), Some(ADDRESS)).0.services.len(),
        0
    );
}

#[test]
fn what_a_change_does_not_touch_is_shared() {
    let mut converter = converter();
    let all = (1..=20).flat_map(|number| {
        [
            compose("shop", "web", number),
            compose(&format!("p{number}"), "db", 1),
        ]
    });
    let first = local(all);
    let (before, _) = converter.convert(&first, Some(ADDRESS));
    let changed = Container {
        health: Some(Health::Starting),
        ..compose("p7", "db", 1)
    };
    let (after, _) = converter.convert(&with(&first, changed), Some(ADDRESS));
    let shared = before
        .services
        .iter()
        .filter(|(name, service)| Arc::ptr_eq(service, &after.services[*name]));
    assert_eq!((before.services.len(), shared.count()), (21, 20));
}
