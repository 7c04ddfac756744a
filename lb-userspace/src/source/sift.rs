//! Takes out of a source's wishes what cannot be carried out, and says so: one bad object never stops the rest.
//!
//! For sources that nobody edits as a whole. A services file with a mistake is refused instead, and the one before it served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Note;
use crate::model::validate::{Fault, Place, Problem, validate};
use crate::model::{Desired, DesiredService};

/// What is left of a service when something of it was taken out can be wrong anew, as a node's backends are without it.
const ROUNDS: usize = 4;

/// The wishes without what is wrong with them. What two services claim is left to the one created first.
pub fn sift(mut desired: Desired) -> (Desired, Vec<Note>) {
    let mut notes = Vec::new();
    for round in 0..ROUNDS {
        let faults = validate(&desired);
        if faults.is_empty() {
            break;
        }
        let mut taken: BTreeSet<Place> = BTreeSet::new();
        let faults = faults.into_iter().map(|fault| yielding(&desired, fault));
        // Whoever is wrong even now goes as a whole.
        let faults = faults.map(|fault| if round + 1 < ROUNDS { fault } else { whole(fault) });
        for fault in faults {
            // One note for each thing is enough.
            if taken.insert(fault.place.clone()) {
                notes.push(note(&desired, &fault));
            }
        }
        // From the last to the first: indices before it stay what they are.
        for place in taken.into_iter().rev() {
            take(&mut desired, place);
        }
    }
    (desired, notes)
}

/// Of two services that want one frontend the one without tasks yields, else the younger, whichever was looked at first.
fn yielding(desired: &Desired, fault: Fault) -> Fault {
    let Problem::DuplicateFrontend { frontend, other } = &fault.problem else {
        return fault;
    };
    let Place::Frontend { service, .. } = &fault.place else {
        return fault;
    };
    let age = |name: &Arc<str>| {
        desired
            .order
            .iter()
            .position(|known| known == name)
            .unwrap_or(usize::MAX)
    };
    let idle = |name: &Arc<str>| {
        let service = desired.services.get(name);
        service.is_none_or(|service| service.backends.is_empty())
    };
    let rank = |name| (idle(name), age(name));
    if (rank(other), other) <= (rank(service), service) {
        return fault;
    }
    let index = desired.services.get(other).and_then(|loser| {
        let key = (frontend.address, frontend.port, frontend.protocol);
        loser
            .frontends
            .iter()
            .position(|front| (front.address, front.port, front.protocol) == key)
    });
    match index {
        Some(index) => Fault {
            place: Place::Frontend {
                service: Arc::clone(other),
                index,
            },
            problem: Problem::DuplicateFrontend {
                frontend: *frontend,
                other: Arc::clone(service),
            },
        },
        None => fault,
    }
}

fn whole(fault: Fault) -> Fault {
    let place = match fault.place {
        Place::Vip { service, .. }
        | Place::Exposed { service, .. }
        | Place::Frontend { service, .. }
        | Place::Backend { service, .. } => Place::Service(service),
        place => place,
    };
    Fault { place, ..fault }
}

fn take(desired: &mut Desired, place: Place) {
    let inner = |services: &mut BTreeMap<Arc<str>, Arc<DesiredService>>,
                 name: &Arc<str>,
                 change: &dyn Fn(&mut DesiredService)| {
        if let Some(service) = services.get_mut(name) {
            change(Arc::make_mut(service));
        }
    };
    let services = &mut desired.services;
    match place {
        Place::Node(name) => {
            desired.nodes.remove(&name);
        }
        Place::Service(name) => {
            services.remove(&name);
            desired.order.retain(|known| *known != name);
        }
        Place::Vip { service, index } => inner(services, &service, &|service| {
            let vip = remove(&mut service.vips, index);
            service
                .frontends
                .retain(|front| vip.is_none() || front.address != vip);
        }),
        Place::Exposed { service, index } => inner(services, &service, &|service| {
            remove(&mut service.exposed, index);
        }),
        Place::Frontend { service, index } => inner(services, &service, &|service| {
            remove(&mut service.frontends, index);
        }),
        Place::Backend { service, index } => inner(services, &service, &|service| {
            remove(&mut service.backends, index);
        }),
    }
}

fn remove<T>(list: &mut Vec<T>, index: usize) -> Option<T> {
    (index < list.len()).then(|| list.remove(index))
}

fn note(desired: &Desired, fault: &Fault) -> Note {
    let (service, what, consequence) = match &fault.place {
        Place::Node(name) => (
            None,
            format!("node {name}"),
            "the node and its tasks are left out",
        ),
        Place::Service(name) => (Some(name), format!("service {name}"), "the service is left out"),
        Place::Vip { service, .. } => (
            Some(service),
            format!("service {service}"),
            "it is served without this address",
        ),
        Place::Exposed { service, .. } => (
            Some(service),
            format!("service {service}"),
            "it is served without this port",
        ),
        Place::Frontend { service, .. } => (
            Some(service),
            format!("service {service}"),
            "it is served everywhere else it wants to be",
        ),
        Place::Backend { service, index } => {
            let task = desired
                .services
                .get(service)
                .and_then(|service| service.backends.get(*index));
            let task = task.map_or_else(String::new, |backend| format!(", task {}", backend.task));
            (
                Some(service),
                format!("service {service}{task}"),
                "the task is left out",
            )
        }
    };
    Note {
        service: service.cloned(),
        what: format!("{what}: {}", fault.problem),
        consequence: consequence.into(),
        fix: fault.problem.fix(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    use crate::model::Readiness;
    use crate::model::validate::validate;

    fn pair() -> Desired {
        let mut desired = testing::web(vec![testing::backend("web.1", "node1")]);
        let mut other = testing::service(8080, vec![testing::backend("old.1", "node2")]);
        other.health = None;
        desired.services.insert("zold".into(), Arc::new(other));
        desired.order = vec!["zold".into(), "web".into()];
        desired
    }

    #[test]
    fn what_nothing_is_wrong_with_stays_as_it_is_and_shared() {
        let desired = testing::web(vec![testing::backend("web.1", "node1")]);
        let before = Arc::clone(&desired.services["web"]);
        let (sifted, notes) = sift(desired);
        assert_eq!(notes, []);
        assert!(Arc::ptr_eq(&before, &sifted.services["web"]));
    }

    #[test]
    fn of_two_that_want_one_port_the_younger_yields_and_is_served_otherwise() {
        let (sifted, notes) = sift(pair());
        assert_eq!(sifted.services["zold"].frontends.len(), 1);
        assert_eq!(sifted.services["web"].frontends.len(), 0);
        assert_eq!(sifted.services["web"].backends.len(), 1);
        let [note] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!(note.service.as_deref(), Some("web"));
        assert_eq!(
            note.what,
            "service web: *:8080/tcp is published twice; service zold has it already"
        );
    }

    #[test]
    fn of_two_that_want_one_port_the_one_with_tasks_has_it() {
        let mut desired = pair();
        let old = Arc::make_mut(desired.services.get_mut("zold").unwrap());
        old.backends.clear();
        let (sifted, notes) = sift(desired);
        assert_eq!(sifted.services["zold"].frontends.len(), 0);
        assert_eq!(sifted.services["web"].frontends.len(), 1);
        assert_eq!(notes[0].service.as_deref(), Some("zold"));
    }

    #[test]
    fn a_bad_task_leaves_and_its_service_stays() {
        let mut desired = pair();
        let web = Arc::make_mut(desired.services.get_mut("web").unwrap());
        web.backends.push(testing::backend("web.2", "nowhere"));
        web.backends.push(testing::backend("web.3", "node3"));
        let (sifted, notes) = sift(desired);
        let tasks: Vec<_> = sifted.services["web"]
            .backends
            .iter()
            .map(|backend| &*backend.task)
            .collect();
        assert_eq!(tasks, ["web.1", "web.3"]);
        assert!(
            notes[0].what.starts_with("service web, task web.2: node nowhere"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_service_that_is_wrong_as_a_whole_leaves_and_the_others_stay() {
        let mut desired = pair();
        Arc::make_mut(desired.services.get_mut("web").unwrap()).slots = 1000;
        let (sifted, notes) = sift(desired);
        assert_eq!(
            sifted.services.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["zold"]
        );
        assert_eq!(sifted.order, [Arc::from("zold")]);
        assert!(
            notes
                .iter()
                .any(|note| note.consequence == "the service is left out"),
            "{notes:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_left_is_valid(mut desired in testing::any_desired(), slots in 0..200_u32) {
            for service in desired.services.values_mut() {
                let service = Arc::make_mut(service);
                service.slots = 64 * (slots % 3);
                service.frontends.extend(service.frontends.clone());
                if let Some(first) = service.backends.first().cloned() {
                    service.backends.push(first);
                }
                for backend in &mut service.backends {
                    backend.readiness = Readiness::Ready;
                }
            }
            let (sifted, _) = sift(desired);
            proptest::prop_assert_eq!(validate(&sifted), vec![]);
        }
    }
}
