use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{any_desired, backend, service, tags, web};
use super::super::{Affinity, DesiredBackend, DesiredService, Exposed, Protocol, Readiness, Standing};
use super::*;

mod sources;
mod vips;

use vips::{agreed, exposed};

const ID: [u8; 32] = [0; 32];

/// A composer with a hand-driven clock.
struct Bench {
    composer: Composer,
    now: Instant,
}

impl Bench {
    fn new(desired: Desired) -> Self {
        let composer = Composer::new(Identity::new(ID), ["file".into()], Drains::default());
        let mut bench = Self {
            composer,
            now: Instant::now(),
        };
        bench.show(desired);
        bench
    }

    fn absorb(&mut self, event: Event) -> Option<Snapshot> {
        self.composer.absorb(event);
        self.composer.compose(self.now)
    }

    fn show(&mut self, desired: Desired) -> Option<Snapshot> {
        self.absorb(Event::Source {
            source: "file".into(),
            desired: Arc::new(desired),
        })
    }

    fn wait(&mut self, milliseconds: u64) -> Option<Snapshot> {
        self.now += Duration::from_millis(milliseconds);
        self.composer.compose(self.now)
    }

    fn unhealthy(&mut self, node: &str, failing: &[u64]) -> Option<Snapshot> {
        self.absorb(Event::Health {
            node: node.into(),
            unhealthy: tags(failing.iter().copied()),
        })
    }

    fn drain(&mut self, object: DrainObject, drained: bool) -> Option<Snapshot> {
        let mark = self.composer.marks().drains.command(object, drained, 1);
        self.absorb(Event::Drain(mark))
    }

    fn standing(&self, task: &str) -> Standing {
        let snapshot = self.composer.snapshot();
        snapshot.services["web"]
            .backends
            .iter()
            .find(|backend| &*backend.task == task)
            .unwrap()
            .standing
    }
}

fn two() -> Vec<DesiredBackend> {
    vec![backend("web.1", "node1"), backend("web.2", "node2")]
}

fn tag(task: &str) -> u64 {
    Identity::new(ID).backend("web", task)
}

#[test]
fn backends_known_at_the_start_serve_at_once_and_later_ones_warm_first() {
    let mut bench = Bench::new(web(vec![backend("web.1", "node1")]));
    assert_eq!(bench.standing("web.1"), Standing::Active);
    bench.show(web(two())).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Warming);
    assert!(bench.wait(499).is_none());
    assert!(bench.wait(1).is_some());
    assert_eq!(bench.standing("web.2"), Standing::Active);
    assert_eq!(bench.composer.next_deadline(), None);
}

#[test]
fn an_agent_that_starts_anew_takes_for_active_who_had_slots_before() {
    let identity = Identity::new(ID);
    let active = [identity.member("web", "web.1", 80, super::super::Family::V4)].into();
    let past = Past {
        active: Some(active),
        ..Past::default()
    };
    let mut bench = Bench {
        composer: Composer::new(identity, ["file".into()], past),
        now: Instant::now(),
    };
    bench.show(web(two())).unwrap();
    assert_eq!(
        (bench.standing("web.1"), bench.standing("web.2")),
        (Standing::Active, Standing::Warming)
    );
    bench.wait(500).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Active);
}

/// `web` with other slots and affinity.
fn shaped(slots: u32, affinity: Affinity) -> Desired {
    let mut desired = web(two());
    let web = Arc::make_mut(desired.services.get_mut("web").unwrap());
    (web.slots, web.affinity) = (slots, affinity);
    desired
}

#[test]
fn a_service_keeps_the_slots_and_the_affinity_it_was_first_seen_with() {
    let mut bench = Bench::new(web(two()));
    let snapshot = bench.show(shaped(8192, Affinity::ClientIp)).unwrap();
    let (first, wanted) = (
        Shape {
            slots: 4096,
            affinity: Affinity::None,
        },
        Shape {
            slots: 8192,
            affinity: Affinity::ClientIp,
        },
    );
    let web = &snapshot.services["web"];
    assert_eq!((web.shape(), web.wanted), (first, Some(wanted)));
    assert_eq!(
        (snapshot.pools[0].slots, snapshot.pools[0].affinity),
        (4096, Affinity::None)
    );
    // Whoever takes the change back has no wish left.
    let snapshot = bench.show(shaped(4096, Affinity::None)).unwrap();
    assert_eq!(snapshot.services["web"].wanted, None);
    // Removed and added again it is a new service.
    bench.show(Desired {
        services: BTreeMap::new(),
        ..shaped(4096, Affinity::None)
    });
    let snapshot = bench.show(shaped(8192, Affinity::ClientIp)).unwrap();
    assert_eq!(
        (snapshot.services["web"].shape(), snapshot.services["web"].wanted),
        (wanted, None)
    );
    assert_eq!(snapshot.pools[0].slots, 8192);
}

#[test]
fn a_service_keeps_its_slots_over_a_restart_of_the_agent() {
    let identity = Identity::new(ID);
    let found = Shape {
        slots: 1024,
        affinity: Affinity::ClientIp,
    };
    let past = Past {
        shapes: [(identity.pool("web", 80, super::super::Family::V4), found)].into(),
        ..Past::default()
    };
    let mut bench = Bench {
        composer: Composer::new(identity, ["file".into()], past),
        now: Instant::now(),
    };
    let snapshot = bench.show(web(two())).unwrap();
    let web = &snapshot.services["web"];
    assert_eq!(web.shape(), found);
    assert_eq!(web.wanted.map(|wanted| wanted.slots), Some(4096));
}

#[test]
fn a_draining_backend_stays_a_member_and_one_that_is_gone_does_not() {
    let mut draining = two();
    draining[1].readiness = Readiness::Draining;
    let mut bench = Bench::new(web(two()));
    let snapshot = bench.show(web(draining)).unwrap();
    assert_eq!(snapshot.pools[0].members.len(), 2);
    assert_eq!(bench.standing("web.2"), Standing::Draining);
    let snapshot = bench.show(web(vec![backend("web.1", "node1")])).unwrap();
    assert_eq!(snapshot.pools[0].members.len(), 1);
}

#[test]
fn a_failing_backend_is_taken_out_and_warms_when_it_returns() {
    let mut bench = Bench::new(web(two()));
    bench.unhealthy("node2", &[tag("web.2")]).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Unhealthy);
    bench.unhealthy("node2", &[]).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Warming);
    bench.wait(500).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Active);
}

#[test]
fn a_node_judges_only_its_own_backends() {
    let mut bench = Bench::new(web(two()));
    assert!(bench.unhealthy("node1", &[tag("web.2")]).is_none());
    assert_eq!(bench.standing("web.2"), Standing::Active);
}

#[test]
fn health_heard_before_the_service_is_known_counts_when_it_is() {
    let composer = Composer::new(Identity::new(ID), ["file".into()], Drains::default());
    let mut bench = Bench {
        composer,
        now: Instant::now(),
    };
    assert!(bench.unhealthy("node2", &[tag("web.2")]).is_none());
    bench.show(web(two())).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Unhealthy);
}

#[test]
fn a_service_that_is_no_longer_checked_has_no_unhealthy_backends() {
    let mut bench = Bench::new(web(two()));
    bench.unhealthy("node2", &[tag("web.2")]);
    let mut unchecked = service(8080, two());
    unchecked.health = None;
    let mut desired = web(vec![]);
    desired.services.insert("web".into(), Arc::new(unchecked));
    bench.show(desired).unwrap();
    assert_eq!(bench.standing("web.2"), Standing::Warming);
}

#[test]
fn draining_a_node_drains_its_backends_and_undraining_brings_them_back() {
    let mut bench = Bench::new(web(two()));
    let node = DrainObject::Node("node1".into());
    let snapshot = bench.drain(node.clone(), true).unwrap();
    assert!(snapshot.nodes["node1"].draining);
    assert_eq!(
        (bench.standing("web.1"), bench.standing("web.2")),
        (Standing::Draining, Standing::Active)
    );
    bench.drain(node, false).unwrap();
    bench.wait(500).unwrap();
    assert_eq!(bench.standing("web.1"), Standing::Active);
}

#[test]
fn draining_a_backend_leaves_its_node_alone() {
    let mut bench = Bench::new(web(two()));
    let snapshot = bench
        .drain(
            DrainObject::Backend {
                service: "web".into(),
                task: "web.2".into(),
            },
            true,
        )
        .unwrap();
    assert!(!snapshot.nodes["node2"].draining);
    assert_eq!(bench.standing("web.2"), Standing::Draining);
}

#[test]
fn suspicion_marks_the_node_and_leaves_its_backends_where_they_are() {
    let mut bench = Bench::new(web(two()));
    let before = bench.composer.snapshot();
    let after = bench.absorb(Event::Suspicion(["node2".into()].into())).unwrap();
    assert!(after.nodes["node2"].suspected);
    assert!(Arc::ptr_eq(&before.services["web"], &after.services["web"]));
    assert_eq!(bench.standing("web.2"), Standing::Active);
}

#[test]
fn a_lighter_backend_is_remembered_at_its_highest_weight() {
    let mut heavy = two();
    heavy[0].weight = 5;
    let mut bench = Bench::new(web(heavy));
    let snapshot = bench.show(web(two())).unwrap();
    let member = snapshot.pools[0]
        .members
        .iter()
        .find(|member| &*member.task == "web.1")
        .unwrap();
    assert_eq!((member.candidate.weight, member.candidate.peak), (1, 5));
}

#[test]
fn backends_that_come_later_are_known_to_have_come_later() {
    let mut bench = Bench::new(web(vec![backend("web.1", "node1")]));
    let snapshot = bench.show(web(two())).unwrap();
    let seen = |task: &str| {
        let mut members = snapshot.pools[0].members.iter();
        let member = members.find(|member| &*member.task == task).unwrap();
        (member.candidate.seen_first, member.candidate.seen_last)
    };
    assert_eq!((seen("web.1"), seen("web.2")), ((0, u64::MAX), (5, 4)));
}

#[test]
fn a_change_of_one_service_leaves_the_others_shared() {
    let mut desired = web(two());
    desired
        .services
        .insert("api".into(), Arc::new(service(8081, two())));
    let mut bench = Bench::new(desired.clone());
    let before = bench.composer.snapshot();
    desired
        .services
        .insert("api".into(), Arc::new(service(8081, vec![])));
    let after = bench.show(desired).unwrap();
    assert!(Arc::ptr_eq(&before.services["web"], &after.services["web"]));
    assert!(!Arc::ptr_eq(&before.services["api"], &after.services["api"]));
}

/// 10,000 services of ten backends each: what one change costs must not depend on the others.
#[test]
fn a_failing_backend_among_ten_thousand_services_touches_one_service() {
    let mut desired = web(vec![]);
    desired.services = (0..10_000u16)
        .map(|n| {
            let backends = (0..10).map(|b| backend(&format!("task.{b}"), &format!("node{}", b % 3 + 1)));
            let mut service = service(10_000 + n, backends.collect());
            service.exposed = vec![exposed(80)];
            (Arc::from(format!("s{n}")), Arc::new(service))
        })
        .collect();
    desired.order = (0..10_000).map(|n| format!("s{n}").into()).collect();
    let start = Instant::now();
    let mut bench = Bench {
        composer: Composer::new(agreed(), ["file".into()], Drains::default()),
        now: Instant::now(),
    };
    bench.show(desired.clone()).unwrap();
    println!("first snapshot: {:?}", start.elapsed());
    let before = bench.composer.snapshot();
    let start = Instant::now();
    let tag = Identity::new(ID).backend("s77", "task.0");
    let after = bench.unhealthy("node1", &[tag]).unwrap();
    println!("one backend fails: {:?}", start.elapsed());
    let start = Instant::now();
    let diff = super::super::Diff::between(&before, &after, |_| false);
    println!("difference: {:?}", start.elapsed());
    assert_eq!((diff.changed.len(), diff.gone.len()), (1, 0));
    let mut show = |what: &str, desired: &Desired| {
        let start = Instant::now();
        let (source, desired) = ("file".into(), Arc::new(desired.clone()));
        bench.composer.absorb(Event::Source { source, desired });
        let snapshot = bench.composer.compose(bench.now).unwrap();
        println!("{what}: {:?}", start.elapsed());
        snapshot.services
    };
    let mut changed = desired.clone();
    Arc::make_mut(changed.services.get_mut("s5").unwrap()).backends[0].weight = 2;
    show("one weight changes", &changed);
    changed
        .services
        .insert("last".into(), Arc::new(desired.services["s0"].as_ref().clone()));
    changed.order.push("last".into());
    let appended = show("one service more", &changed);
    changed.services.remove("s0");
    let removed = show("the first service goes", &changed);
    let moved = removed
        .iter()
        .filter(|(name, service)| appended[*name].vips != service.vips);
    assert!(moved.count() <= 1);
    let copied = before
        .services
        .values()
        .zip(after.services.values())
        .filter(|(a, b)| !Arc::ptr_eq(a, b));
    assert_eq!(copied.count(), 1);
}

proptest! {
    /// Composing step by step and composing the end alone give the same picture, save for who is still warming and for
    /// what was seen on the way.
    #[test]
    fn the_way_to_a_state_does_not_matter(states in proptest::collection::vec(any_desired(), 1..5)) {
        let last = states.last().cloned().unwrap();
        let mut walked = Bench::new(states[0].clone());
        for state in &states[1..] {
            walked.show(state.clone());
        }
        walked.wait(11_000);
        let mut direct = Bench::new(last);
        direct.wait(0);
        let (mut walked, direct) = (walked.composer.snapshot(), direct.composer.snapshot());
        walked.generation = direct.generation;
        for pool in &mut walked.pools {
            for member in &mut Arc::make_mut(pool).members {
                member.candidate.peak = member.candidate.weight;
                (member.candidate.seen_first, member.candidate.seen_last) = (0, u64::MAX);
            }
        }
        prop_assert_eq!(walked, direct);
    }

    #[test]
    fn an_event_without_effect_makes_no_snapshot(desired in any_desired()) {
        let mut bench = Bench::new(desired.clone());
        prop_assert!(bench.show(desired).is_none());
        prop_assert!(bench.wait(60_000).is_none());
    }
}
