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
fn applied(before: &Snapshot, diff: &Diff) -> Vec<Pool> {
    let mut pools: BTreeMap<u64, Pool> = before
        .pools
        .iter()
        .map(|pool| (pool.id, Pool::clone(pool)))
        .collect();
    for id in &diff.gone {
        pools.remove(id);
    }
    for change in &diff.changed {
        pools.insert(change.pool.id, Pool::clone(&change.pool));
    }
    let mut pools: Vec<Pool> = pools.into_values().collect();
    pools.sort_by(|a, b| key(a).cmp(&key(b)));
    pools
}

proptest! {
    #[test]
    fn applying_the_difference_gives_the_new_snapshot(one in any_desired(), two in any_desired()) {
        let mut composer = composer();
        let before = shown(&mut composer, one).unwrap_or_default();
        let after = shown(&mut composer, two).unwrap_or_else(|| before.clone());
        let diff = Diff::between(&before, &after, |_| false);
        let wanted: Vec<Pool> = after.pools.iter().map(|pool| Pool::clone(pool)).collect();
        prop_assert_eq!(applied(&before, &diff), wanted);
        for change in &diff.changed {
            prop_assert_eq!(change.service.as_ref(), after.services.get(&change.pool.service));
        }
    }

    #[test]
    fn a_snapshot_does_not_differ_from_itself(desired in any_desired()) {
        let snapshot = shown(&mut composer(), desired).unwrap_or_default();
        let diff = Diff::between(&snapshot, &snapshot.clone(), |_| false);
        prop_assert!(diff.changed.is_empty() && diff.gone.is_empty());
    }
}

#[test]
fn a_node_that_is_suspected_changes_the_pools_with_members_there() {
    let mut composer = composer();
    let snapshot = shown(&mut composer, web(vec![backend("web.1", "node1")])).unwrap();
    let changed = |node: &str| {
        let tag = snapshot.nodes[node].tag;
        let turns = |pool: &Pool| pool.members.iter().any(|member| member.candidate.node == tag);
        Diff::between(&snapshot, &snapshot, turns).changed.len()
    };
    assert_eq!(changed("node1"), 1);
    assert_eq!(changed("node2"), 0);
}
