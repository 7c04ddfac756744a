//! From picture to picture without any connection.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::model::testing::{any_rich_desired, backend, service, web};
use crate::model::{Desired, Readiness};
use crate::source::stream::held::{Held, Unusable};
use crate::source::stream::publisher::{Issue, bytes_of};
use crate::source::stream::wire::update::Body;
use crate::source::stream::{Publisher, bytes_of_change};

fn newest(publisher: &Publisher) -> Arc<Issue> {
    publisher.subscribe().borrow().clone().unwrap()
}

fn told(desired: &Desired) -> Desired {
    Desired {
        guests: Default::default(),
        ..desired.clone()
    }
}

proptest! {
    #[test]
    fn whoever_asks_whenever_gets_the_newest(pictures in proptest::collection::vec(any_rich_desired(), 1..6)) {
        let publisher = Publisher::new();
        let mut all = vec![Held::default()];
        for picture in &pictures {
            publisher.publish(Arc::new(picture.clone()));
            let issue = newest(&publisher);
            for held in &mut all {
                let update = issue.update(held.epoch, held.generation);
                let news = held.generation != issue.place().1;
                prop_assert_eq!(matches!(update.body, Some(Body::Full(_))), held.epoch == 0);
                let after = held.after(update).unwrap();
                prop_assert_eq!(&*after.desired, &told(picture));
                // Half of them miss the next ones.
                if news && held.epoch == 0 {
                    *held = after;
                }
            }
            all.push(Held::default());
        }
    }

    #[test]
    fn a_damaged_difference_leaves_the_picture(
        before in any_rich_desired(), after in any_rich_desired(), at in any::<prop::sample::Index>(), byte: u8
    ) {
        let publisher = Publisher::new();
        publisher.publish(Arc::new(before));
        let held = Held::default().after(newest(&publisher).update(0, 0)).unwrap();
        publisher.publish(Arc::new(after));
        let mut update = newest(&publisher).update(held.epoch, held.generation);
        let Some(Body::Diff(bytes)) = &update.body else { panic!("{update:?}") };
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        update.body = Some(Body::Diff(Bytes::from(bytes)));
        let _ = held.after(update);
    }
}

/// 1,000 services of 10 tasks.
fn large() -> Desired {
    let mut desired = web(vec![]);
    desired.services.clear();
    for n in 0..1000 {
        let backends = (0..10).map(|task| backend(&format!("s{n}.{task}"), "node1"));
        desired.services.insert(
            format!("s{n}").into(),
            Arc::new(service(8080 + n, backends.collect())),
        );
        desired.order.push(format!("s{n}").into());
    }
    desired
}

fn edit(desired: &Desired, name: &str, change: impl FnOnce(&mut crate::model::DesiredService)) -> Desired {
    let mut desired = desired.clone();
    change(Arc::make_mut(desired.services.get_mut(name).unwrap()));
    desired
}

#[test]
fn a_change_costs_what_has_changed() {
    let before = Arc::new(large());
    let drained = edit(&before, "s7", |service| {
        service.backends[3].readiness = Readiness::Draining
    });
    let drained = bytes_of_change(&before, &Arc::new(drained));
    assert!((50..150).contains(&drained), "{drained}");
    let mut removed = (*before).clone();
    removed.services.remove("s7");
    removed.order.retain(|name| &**name != "s7");
    let removed = bytes_of_change(&before, &Arc::new(removed));
    assert!((20..80).contains(&removed), "{removed}");
    let mut added = (*before).clone();
    added.services.insert(
        "new".into(),
        Arc::new(service(80, vec![backend("new.1", "node1")])),
    );
    added.order.push("new".into());
    let added = bytes_of_change(&before, &Arc::new(added));
    assert!((100..250).contains(&added), "{added}");
}

#[test]
fn what_came_and_went_again_is_not_told() {
    let publisher = Publisher::new();
    publisher.publish(Arc::new(large()));
    let held = Held::default().after(newest(&publisher).update(0, 0)).unwrap();
    for n in 0..100 {
        publisher.publish(Arc::new(edit(&large(), "s7", |service| {
            service.backends[0].weight = 2 + n
        })));
    }
    let issue = newest(&publisher);
    let update = issue.update(held.epoch, held.generation);
    assert!(bytes_of(&update) < 150, "{}", bytes_of(&update));
    let after = held.after(update).unwrap();
    assert_eq!(after.desired.services["s7"].backends[0].weight, 101);
    assert!(Arc::ptr_eq(
        &after.desired.services["s8"],
        &held.desired.services["s8"]
    ));
}

#[test]
fn the_same_picture_again_is_no_news() {
    let publisher = Publisher::new();
    publisher.publish(Arc::new(large()));
    publisher.publish(Arc::new(large()));
    assert_eq!(newest(&publisher).place().1, 1);
}

#[test]
fn who_was_away_too_long_gets_it_in_full() {
    let publisher = Publisher::new();
    publisher.publish(Arc::new(web(vec![])));
    let held = Held::default().after(newest(&publisher).update(0, 0)).unwrap();
    let pictures = |n: u16| Arc::new(edit(&web(vec![]), "web", |service| service.naming.ttl = n.into()));
    for n in 100..356 {
        publisher.publish(pictures(n));
    }
    let body = |held: &Held| {
        newest(&publisher)
            .update(held.epoch, held.generation)
            .body
            .unwrap()
    };
    assert!(matches!(body(&held), Body::Diff(_)));
    publisher.publish(pictures(356));
    assert!(matches!(body(&held), Body::Full(_)));
    let later = Held {
        generation: 999,
        ..held
    };
    assert!(matches!(body(&later), Body::Full(_)));
}

#[test]
fn a_difference_of_another_picture_is_refused() {
    let publisher = Publisher::new();
    publisher.publish(Arc::new(web(vec![])));
    let held = Held::default().after(newest(&publisher).update(0, 0)).unwrap();
    publisher.publish(Arc::new(large()));
    let update = newest(&publisher).update(held.epoch, held.generation);
    let ahead = Held {
        generation: 2,
        ..held.clone()
    };
    assert_eq!(ahead.after(update.clone()).unwrap_err(), Unusable::OtherBase);
    let other = Held {
        epoch: held.epoch ^ 2,
        ..held
    };
    assert_eq!(other.after(update).unwrap_err(), Unusable::OtherBase);
}

#[test]
fn all_followers_share_the_bytes() {
    let publisher = Publisher::new();
    publisher.publish(Arc::new(large()));
    publisher.publish(Arc::new(edit(&large(), "s1", |service| service.slots = 64)));
    let issue = newest(&publisher);
    let bytes = |generation| match issue.update(issue.place().0, generation).body {
        Some(Body::Full(bytes) | Body::Diff(bytes)) => bytes.as_ptr(),
        None => panic!("an update without a body"),
    };
    assert_eq!(bytes(1), bytes(1));
    assert_eq!(bytes(99), bytes(99));
    assert_ne!(bytes(1), bytes(99));
}
