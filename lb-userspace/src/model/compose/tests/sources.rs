//! What sources say, several of them together, and of tasks that are not ready.

use super::*;
use crate::model::Attachment;

#[test]
fn no_snapshot_is_made_before_every_source_has_spoken() {
    let mut composer = Composer::new(
        Identity::new(ID),
        ["file".into(), "docker".into()],
        Drains::default(),
    );
    composer.absorb(Event::Source {
        source: "file".into(),
        desired: Arc::default(),
    });
    assert!(composer.compose(Instant::now()).is_none());
    composer.absorb(Event::Source {
        source: "docker".into(),
        desired: Arc::default(),
    });
    assert_eq!(composer.compose(Instant::now()).unwrap().generation, 1);
}

#[test]
fn rules_of_proxying_take_effect_at_once_and_leave_the_pools_as_they_are() {
    let mut composer = Composer::new(Identity::new(ID), ["file".into()], Drains::default());
    let mut say = |transparent| {
        let mut desired = web(two());
        let service = Arc::make_mut(desired.services.get_mut("web").unwrap());
        service.proxy.transparent = transparent;
        composer.absorb(Event::Source {
            source: "file".into(),
            desired: Arc::new(desired),
        });
        composer.compose(Instant::now())
    };
    let before = say(false).unwrap();
    assert_eq!(say(false), None);
    let after = say(true).unwrap();
    assert!(after.services["web"].proxy.transparent);
    assert!(Arc::ptr_eq(&before.pools[0], &after.pools[0]));
}

#[test]
fn what_two_sources_claim_goes_to_the_first() {
    let mut composer = Composer::new(
        Identity::new(ID),
        ["file".into(), "docker".into()],
        Drains::default(),
    );
    composer.absorb(Event::Source {
        source: "docker".into(),
        desired: Arc::new(web(vec![])),
    });
    composer.absorb(Event::Source {
        source: "file".into(),
        desired: Arc::new(web(two())),
    });
    let snapshot = composer.compose(Instant::now()).unwrap();
    assert_eq!(snapshot.services["web"].backends.len(), 2);
    assert_eq!(composer.conflicts().len(), 1);
    assert_eq!(
        composer.conflicts()[0].to_string(),
        "source docker: service web belongs to an earlier source"
    );
}

#[test]
fn a_later_sources_services_take_their_vips_after_all_of_the_firsts() {
    let wanting = |names: &[&str]| {
        let mut desired = web(vec![]);
        let services = names
            .iter()
            .map(|name| (Arc::from(*name), Arc::new(service(8080, vec![]))));
        desired.services = services.collect();
        desired
    };
    let (mut first, later) = (wanting(&["c", "b"]), wanting(&["a", "b"]));
    first.order = vec!["c".into(), "b".into()];
    let sources = [(&Arc::from("file"), &first), (&Arc::from("docker"), &later)];
    let (merged, _) = merge(sources);
    assert_eq!(merged.order, ["c", "b", "a"].map(Arc::<str>::from));
}

#[test]
fn tasks_of_a_service_that_another_source_has_still_ask_for_names() {
    let mut later = web(two());
    let service = Arc::make_mut(later.services.get_mut("web").unwrap());
    let at = |network: &str, last| Attachment {
        network: network.into(),
        address: [172, 18, 0, last].into(),
    };
    service.backends[0].attachments = vec![at("back", 8), at("front", 9)];
    let first = web(vec![]);
    let sources = [(&Arc::from("file"), &first), (&Arc::from("docker"), &later)];
    let (merged, _) = merge(sources);
    let networks: Arc<[Arc<str>]> = ["back".into(), "front".into()].into();
    let both = [8, 9].map(|last| ([172, 18, 0, last].into(), Arc::clone(&networks)));
    assert_eq!(merged.guests, both.into());
}

#[test]
fn a_task_that_is_not_ready_gets_nothing_new_and_says_why() {
    let mut bench = Bench::new(web(two()));
    let mut starting = two();
    starting[1].readiness = Readiness::Unready("starting".into());
    let snapshot = bench.show(web(starting)).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Unhealthy);
    let backends = &snapshot.services["web"].backends;
    assert_eq!(backends[1].unready.as_deref(), Some("starting"));
    // Ready again, it is as good as new: the others have to hear of it first.
    bench.show(web(two())).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Warming);
}

#[test]
fn a_guest_makes_a_snapshot_and_touches_no_service() {
    let mut bench = Bench::new(web(two()));
    let before = bench.composer.services["web"].service.clone();
    let mut desired = web(two());
    let networks: Arc<[Arc<str>]> = ["front".into()].into();
    desired.guests.insert([172, 19, 0, 9].into(), networks);
    let snapshot = bench.show(desired.clone()).unwrap();
    assert_eq!(snapshot.guests.len(), 1);
    assert!(Arc::ptr_eq(&snapshot.services["web"], &before));
    assert!(bench.show(desired).is_none());
}
