//! Which plane serves what on this node, and why, where it is not the usual one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::facts::Facts;
use super::naming::label;
use crate::model::{Family, Frontend, Service, is_served};
use crate::plane::choice::{Choice, Reason, Serving};
use crate::plane::proxy::Bind;

/// What carries clients of one family to one frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Of the clients: `IPv4` or `IPv6`.
    pub family: String,
    /// `ebpf` or `proxy`; none: they are not served here.
    pub plane: Option<String>,
    pub reason: String,
    /// As most are.
    pub usual: bool,
}

/// Frontends that have one plane for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusual {
    /// See [`Carried::plane`].
    pub plane: Option<String>,
    pub reason: String,
    /// Service, where it answers, family of its clients.
    pub frontends: Vec<String>,
    /// How many there are.
    pub count: usize,
}

/// For the clients of each family.
pub fn carried(facts: &Facts, service: &Service, frontend: &Frontend) -> Vec<Carried> {
    let choices = facts.here.of(service).at(frontend);
    choices
        .map(|(family, choice)| found(facts, service, frontend, family, &choice))
        .collect()
}

type Chosen<'f> = (&'f Service, &'f Frontend, Family, Choice);
type Told<'f> = (&'f Service, &'f Frontend, Carried);

/// What became of a choice.
fn found(facts: &Facts, service: &Service, frontend: &Frontend, family: Family, choice: &Choice) -> Carried {
    let bind = Bind::of(frontend, family).to_string();
    let mut planes = facts.planes.iter();
    let proxy = planes.find_map(|plane| plane.report.proxy.as_ref());
    let missing = proxy.and_then(|proxy| proxy.missing.get(&bind));
    let mut carried = Carried {
        family: label(family).into(),
        plane: choice.plane.map(|plane| plane.label().into()),
        reason: choice.why(),
        usual: choice.reason == Reason::Usual,
    };
    match (choice.plane, missing) {
        (Some(Serving::Proxy), Some(error)) => {
            // What packet programs can do as well they do then.
            let spared = !facts.here.is_proxy_alone()
                && service.proxy.needs().next().is_none()
                && is_served(&service.backends, family);
            carried.plane = spared.then(|| Serving::Ebpf.label().into());
            carried.reason += &format!("; the proxy cannot listen there: {error}");
        }
        (Some(Serving::Ebpf), Some(error)) if facts.has_bare(service) => {
            carried.usual = false;
            carried.reason += &format!(
                "; tasks on nodes without packet programs get none of them, as the proxy cannot listen there: {error}"
            );
        }
        _ if proxy.is_some_and(|proxy| proxy.led.contains(&bind)) => {
            carried.reason += "; clients are led past another program that has the port";
        }
        _ => {}
    }
    carried
}

/// What is not served by packet programs as usual, by plane and reason.
pub fn unusual(facts: &Facts) -> Vec<Unusual> {
    let all = all(facts).map(told(facts));
    grouped(all.filter(|(_, _, carried)| !carried.usual))
}

/// Of a frontend and the choice for it, what became of that.
fn told<'f>(facts: &Facts) -> impl Fn(Chosen<'f>) -> Told<'f> {
    |(service, frontend, family, choice)| {
        let carried = found(facts, service, frontend, family, &choice);
        (service, frontend, carried)
    }
}

fn grouped<'f>(all: impl Iterator<Item = Told<'f>>) -> Vec<Unusual> {
    let mut found: BTreeMap<(Option<String>, String), Unusual> = BTreeMap::new();
    for (service, frontend, carried) in all {
        let Carried {
            family,
            plane,
            reason,
            ..
        } = carried;
        let entry = found.entry((plane.clone(), reason.clone()));
        let unusual = entry.or_insert_with(|| Unusual {
            plane,
            reason,
            frontends: Vec::new(),
            count: 0,
        });
        unusual.count += 1;
        unusual
            .frontends
            .push(format!("{} {frontend} ({family})", service.name));
    }
    found.into_values().collect()
}

/// What nobody serves here, because only packet programs may. Not clients of a family that the tasks do not have: whoever does
/// without the proxy does without them.
pub fn unserved(facts: &Facts) -> Vec<Problem> {
    let is_missed = |choice: &Choice| choice.plane.is_none() && !matches!(choice.reason, Reason::Family(_));
    let missed = all(facts).filter(|(_, _, _, choice)| is_missed(choice));
    let unserved = grouped(missed.map(told(facts))).into_iter();
    let problem = |unserved: Unusual| {
        let more = match unserved.count - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = unserved.frontends.first().map(String::as_str).unwrap_or_default();
        Problem::new(format!("{first}{more} cannot be served by packet programs"))
            .because(unserved.reason)
            .traffic("its clients are not served by this node; all others are")
            .fix("let the proxy serve it: plane: auto in the service, and mode = \"auto\" in portico.toml")
    };
    unserved.map(problem).collect()
}

fn all(facts: &Facts) -> impl Iterator<Item = Chosen<'_>> {
    facts.snapshot.services.values().flat_map(|service| {
        let choices = facts.here.of(service);
        let frontends = service.frontends.iter();
        frontends.flat_map(move |frontend| {
            let choices = choices.at(frontend);
            choices.map(move |(family, choice)| (&**service, frontend, family, choice))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;
    use crate::config::Mode;
    use crate::model::{Algorithm, Plane};
    use crate::plane::proxy::ProxyReport;

    #[test]
    fn clients_of_a_family_without_tasks_are_told_by_whom_they_are_served() {
        let facts = sample::facts();
        let [unusual] = &unusual(&facts)[..] else {
            panic!("one reason")
        };
        assert_eq!(unusual.plane.as_deref(), Some("proxy"));
        assert_eq!(unusual.reason, "no task has an IPv6 address");
        assert_eq!(unusual.frontends, ["web *:8080/tcp (IPv6)"]);
        assert_eq!(unserved(&facts), []);
    }

    #[test]
    fn a_port_that_another_program_has_is_told_of() {
        let mut facts = sample::facts();
        let told = |facts: &Facts| {
            let service = &facts.snapshot.services["web"];
            let carried = carried(facts, service, &service.frontends[0]).into_iter();
            carried
                .map(|carried| carried.reason)
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert!(!told(&facts).contains("led past"));
        let led = ["[::]:8080/tcp".to_owned()].into();
        facts.planes[0].report.proxy = Some(ProxyReport {
            led,
            ..ProxyReport::default()
        });
        let told = told(&facts);
        assert!(
            told.ends_with(
                "no task has an IPv6 address; clients are led past another program that has the port"
            ),
            "{told}"
        );
    }

    /// What is said of `web` where the proxy cannot listen for IPv4 clients.
    fn without_the_port(facts: &mut Facts) -> Carried {
        let missing = ("0.0.0.0:8080/tcp".into(), "Address already in use".into());
        facts.planes[0].report.proxy = Some(ProxyReport {
            missing: [missing].into(),
            ..ProxyReport::default()
        });
        let service = &facts.snapshot.services["web"];
        carried(facts, service, &service.frontends[0]).remove(0)
    }

    #[test]
    fn where_the_proxy_cannot_listen_nobody_serves_but_packet_programs() {
        let mut facts = sample::facts();
        assert!(without_the_port(&mut facts).usual);
        // They do without the tasks that they do not reach.
        sample::change(&mut facts, |snapshot| {
            sample::node(snapshot, "node2").by_proxy = true
        });
        let mixed = without_the_port(&mut facts);
        assert_eq!((mixed.plane.as_deref(), mixed.usual), (Some("ebpf"), false));
        assert!(mixed.reason.contains("get none of them"), "{mixed:?}");
        sample::change(&mut facts, |snapshot| {
            sample::service(snapshot).proxy.plane = Plane::Proxy
        });
        let spared = without_the_port(&mut facts);
        assert_eq!(spared.plane.as_deref(), Some("ebpf"));
        assert_eq!(
            spared.reason,
            "the service has plane: proxy; the proxy cannot listen there: Address already in use"
        );
        sample::change(&mut facts, |snapshot| {
            sample::service(snapshot).proxy.transparent = true
        });
        assert_eq!(without_the_port(&mut facts).plane, None);
        facts.here.mode = Mode::Proxy;
        sample::change(&mut facts, |snapshot| {
            sample::service(snapshot).proxy = Default::default()
        });
        assert_eq!(without_the_port(&mut facts).plane, None);
        let unserved = unusual(&facts);
        let nobody = unserved.iter().find(|unusual| unusual.plane.is_none()).unwrap();
        assert_eq!(nobody.frontends, ["web *:8080/tcp (IPv4)"]);
    }

    #[test]
    fn a_service_that_asks_for_the_proxy_says_so_on_a_node_that_has_nothing_else() {
        let mut facts = sample::facts();
        facts.here.mode = Mode::Proxy;
        sample::change(&mut facts, |snapshot| {
            let rules = &mut sample::service(snapshot).proxy;
            (rules.plane, rules.algorithm) = (Plane::Proxy, Algorithm::LeastConnections);
        });
        let [unusual] = &unusual(&facts)[..] else {
            panic!("one reason")
        };
        assert_eq!(
            unusual.reason,
            "this node has mode = \"proxy\"; the service has plane: proxy; \
             of a slot's two highest tasks the one with fewer connections is asked for, which only the proxy does"
        );
    }

    #[test]
    fn what_only_packet_programs_may_serve_and_cannot_is_a_problem() {
        let mut facts = sample::facts();
        facts.here.mode = Mode::Proxy;
        assert_eq!(unserved(&facts), []);
        sample::change(&mut facts, |snapshot| {
            sample::service(snapshot).proxy.plane = Plane::Ebpf
        });
        let [problem] = &unserved(&facts)[..] else {
            panic!("one problem")
        };
        assert_eq!(
            problem.what,
            "web *:8080/tcp (IPv4) and 1 more cannot be served by packet programs"
        );
        assert_eq!(problem.why.as_deref(), Some("this node has mode = \"proxy\""));
    }
}
