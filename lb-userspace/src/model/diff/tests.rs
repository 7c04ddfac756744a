use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::super::compose::{Composer, Event};
use super::super::marks::Drains;
use super::super::testing::{any_desired, backend, web};
use super::super::{Desired, Identity};
use super::*;

fn composer() -> Composer {
    Composer::new(Identity::new([0; 32]), ["file".into()], Drains::default())
}

fn shown(composer: &mut Composer, desired: Desired) -> Option<Snapshot> {
    composer.absorb(Event::Source {
        source: "file".into(),
        desired: Arc::new(desired),
    });
    composer.compose(Instant::now())
}

/// Carries a diff out as a plane would, knowing nothing of the new snapshot but the diff.
fn applied(before: &Snapshot, diff: &Diff, generation: u64) -> Snapshot {
    let mut after = before.clone();
    after.generation = generation;
    for change in &diff.nodes {
        match change.after() {
            Some(node) => after.nodes.insert(Arc::clone(&node.name), node.clone()),
            None => after.nodes.remove(&change.before().unwrap().name),
        };
    }
    for change in &diff.services {
        match change.after() {
            Some(service) => after
                .services
                .insert(Arc::clone(&service.name), Arc::new(service.clone())),
            None => after.services.remove(&change.before().unwrap().name),
        };
    }
    let mut pools: BTreeMap<u64, Pool> = before
        .pools
        .iter()
        .map(|pool| (pool.id, Pool::clone(pool)))
        .collect();
    for PoolChange { pool, members } in &diff.pools {
        let Some(new) = pool.after() else {
            pools.remove(&pool.before().unwrap().id);
            continue;
        };
        let former = pools.remove(&new.id).map(|pool| pool.members).unwrap_or_default();
        let mut by_tag: BTreeMap<u64, Member> = former.into_iter().map(|m| (m.candidate.tag, m)).collect();
        for member in members {
            match member.after() {
                Some(member) => by_tag.insert(member.candidate.tag, member.clone()),
                None => by_tag.remove(&member.before().unwrap().candidate.tag),
            };
        }
        pools.insert(
            new.id,
            Pool {
                members: by_tag.into_values().collect(),
                ..new.clone()
            },
        );
    }
    after.pools = pools.into_values().map(Arc::new).collect();
    after.pools.sort_by(|a, b| pool_key(a).cmp(&pool_key(b)));
    after
}

proptest! {
    #[test]
    fn applying_the_difference_gives_the_new_snapshot(one in any_desired(), two in any_desired()) {
        let mut composer = composer();
        let before = shown(&mut composer, one).unwrap_or_default();
        let after = shown(&mut composer, two).unwrap_or_else(|| before.clone());
        let diff = Diff::between(&before, &after);
        prop_assert_eq!(&applied(&before, &diff, after.generation), &after);
        prop_assert_eq!(diff.is_empty(), before.generation == after.generation || before.generation == 0 && after.services.is_empty() && after.nodes.is_empty());
    }

    #[test]
    fn a_snapshot_does_not_differ_from_itself(desired in any_desired()) {
        let snapshot = shown(&mut composer(), desired).unwrap_or_default();
        prop_assert!(Diff::between(&snapshot, &snapshot.clone()).is_empty());
    }
}

#[test]
fn one_more_backend_is_one_more_member_and_nothing_else() {
    let mut composer = composer();
    let before = shown(&mut composer, web(vec![backend("web.1", "node1")])).unwrap();
    let after = shown(
        &mut composer,
        web(vec![backend("web.1", "node1"), backend("web.2", "node2")]),
    )
    .unwrap();
    let diff = Diff::between(&before, &after);
    assert!(diff.nodes.is_empty());
    assert_eq!(diff.pools.len(), 1);
    assert!(matches!(&diff.pools[0].members[..], [Change::Added(member)] if &*member.task == "web.2"));
}
