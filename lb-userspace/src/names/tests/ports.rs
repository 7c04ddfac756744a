//! SRV records, and the names of Kubernetes.

use dns::{Directory, Lookup, Subject, Zone};

use super::{HERE, HOST, at_vip, entry, names, shop, snapshot, told};
use crate::names::Names;

#[test]
fn ports_with_a_name_lead_to_the_vip_or_to_each_task() {
    let names = names(shop());
    let ports = |name| ports(&names, name);
    assert_eq!(ports("web"), ["http web:80 10.254.0.1,fdfe:706f:7274::1"]);
    assert_eq!(
        ports("tasks.web"),
        [
            "http web.1:80 172.18.0.2,2001:db8:18::2",
            "http web.2:80 172.18.0.2"
        ]
    );
    assert_eq!(ports("web.2"), ["http web.2:80 172.18.0.2"]);
    assert_eq!(
        ports("db"),
        ["pg db.1:5432 172.18.0.4", "pg node2-172-18-0-9:5432 172.18.0.9"]
    );
}

#[test]
fn a_port_at_a_vip_is_the_one_that_leads_to_the_tasks_port() {
    let mut services = shop();
    let [v4, v6] = [services[0].vips[0], services[0].vips[1]];
    for (frontends, expected) in [
        // The port of that number is another's there.
        ([at_vip(v4, 80, 8081), at_vip(v6, 80, 8081)], None),
        (
            [at_vip(v4, 8080, 80), at_vip(v6, 8080, 80)],
            Some("http web:8080 10.254.0.1,fdfe:706f:7274::1"),
        ),
        ([at_vip(v4, 8080, 80), at_vip(v6, 80, 80)], None),
        ([at_vip(v4, 80, 80), at_vip(v4, 8080, 80)], None),
    ] {
        services[0].frontends = frontends.into();
        let told = ports(&names(services.clone()), "web");
        assert_eq!(told, expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
    services[0].vips.truncate(1);
    let told = ports(&names(services), "web");
    assert_eq!(told, ["http web:80 10.254.0.1"]);
}

fn ports(names: &Names, name: &str) -> Vec<String> {
    let entry = entry(names, name);
    let targets = entry.ports.iter().flat_map(|port| {
        let targets = port.targets.iter();
        targets.map(|target| {
            let addresses = target.addresses.iter().map(ToString::to_string);
            let host = format!("{:?}", target.host);
            let host = host
                .split("Name(\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_owned();
            format!(
                "{} {host}:{} {}",
                port.name,
                target.port,
                addresses.collect::<Vec<_>>().join(",")
            )
        })
    });
    targets.collect()
}

#[test]
fn kubernetes_names_need_the_namespace() {
    let names = Names::new(HERE, [], true);
    names.show(&snapshot(1, shop()));
    let ask = |host, service, namespace| {
        let subject = Subject::Kubernetes {
            host,
            service,
            namespace,
        };
        names.lookup(HOST, subject)
    };
    let vips = "10.254.0.1 fdfe:706f:7274::1";
    for (host, service, namespace, expected) in [
        (None, "web", "shop", vips),
        (None, "www", "shop", vips),
        (None, "web", "other", "unknown"),
        (None, "db", "shop", "unknown"),
        (Some("web.1"), "web", "shop", "172.18.0.2 2001:db8:18::2"),
        (Some("blue"), "www", "shop", "172.18.0.2 2001:db8:18::2"),
        (Some("db.1"), "web", "shop", "unknown"),
    ] {
        let told = told(&ask(host, service, namespace));
        assert_eq!(told, expected, "{host:?} {service} {namespace}");
    }
    // SRV records stay in the zone that was asked.
    let Lookup::Found(entry) = ask(None, "web", "shop") else {
        panic!()
    };
    let host = format!("{:?}", entry.ports[0].targets[0].host);
    assert!(
        host.contains("Cluster") && host.contains("web.shop.svc"),
        "{host}"
    );
    assert!(names.encloses(HOST, Zone::Cluster, "shop.svc"));
    assert!(!names.encloses(HOST, Zone::Cluster, "other.svc"));
}
