//! Which plane serves what on this node, and why, where it is not the usual one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::facts::Facts;
use super::naming::label;
use crate::model::{Family, Frontend, Service};
use crate::plane::choice::{Choice, Reason};
use crate::plane::proxy::Bind;

/// Frontends named one by one.
const NAMED: usize = 5;

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
    /// The first few of them: service, where it answers, family of its clients.
    pub frontends: Vec<String>,
    /// How many there are in all.
    pub count: usize,
}

/// For the clients of each family.
pub fn carried(facts: &Facts, service: &Service, frontend: &Frontend) -> Vec<Carried> {
    let choices = facts.here.of(service).at(frontend);
    choices
        .map(|(family, choice)| Carried {
            family: label(family).into(),
            usual: choice.reason == Reason::Usual,
            plane: plane(&choice),
            reason: why(facts, frontend, family, &choice),
        })
        .collect()
}

fn why(facts: &Facts, frontend: &Frontend, family: Family, choice: &Choice) -> String {
    let bind = Bind::of(frontend, family).to_string();
    let mut proxies = facts
        .planes
        .iter()
        .filter_map(|plane| plane.report.proxy.as_ref());
    if proxies.any(|proxy| proxy.led.contains(&bind)) {
        return format!(
            "{}; clients are led past another program that has the port",
            choice.reason
        );
    }
    choice.reason.to_string()
}

/// What is not served by packet programs as usual, by plane and reason.
pub fn unusual(facts: &Facts) -> Vec<Unusual> {
    grouped(facts, |choice| choice.reason != Reason::Usual)
}

fn grouped(facts: &Facts, which: impl Fn(&Choice) -> bool) -> Vec<Unusual> {
    let mut found: BTreeMap<(Option<String>, String), Unusual> = BTreeMap::new();
    for (service, frontend, family, choice) in all(facts) {
        if !which(&choice) {
            continue;
        }
        let (plane, reason) = (plane(&choice), choice.reason.to_string());
        let entry = found.entry((plane.clone(), reason.clone()));
        let unusual = entry.or_insert_with(|| Unusual {
            plane,
            reason,
            frontends: Vec::new(),
            count: 0,
        });
        unusual.count += 1;
        if unusual.frontends.len() < NAMED {
            let family = label(family);
            unusual
                .frontends
                .push(format!("{} {frontend} ({family})", service.name));
        }
    }
    found.into_values().collect()
}

/// What nobody serves here, because only packet programs may. Not clients of a family that the tasks do not have: whoever does
/// without the proxy does without them.
pub fn unserved(facts: &Facts) -> Vec<Problem> {
    let is_missed = |choice: &Choice| choice.plane.is_none() && !matches!(choice.reason, Reason::Family(_));
    let unserved = grouped(facts, is_missed).into_iter();
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

fn all(facts: &Facts) -> impl Iterator<Item = (&Service, &Frontend, Family, Choice)> {
    facts.snapshot.services.values().flat_map(|service| {
        let choices = facts.here.of(service);
        let frontends = service.frontends.iter();
        frontends.flat_map(move |frontend| {
            let choices = choices.at(frontend);
            choices.map(move |(family, choice)| (&**service, frontend, family, choice))
        })
    })
}

fn plane(choice: &Choice) -> Option<String> {
    choice.plane.map(|plane| plane.label().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;
    use crate::config::Mode;
    use crate::model::Plane;
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
