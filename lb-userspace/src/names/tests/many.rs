//! Ten thousand services.

use std::sync::Arc;

use super::{HERE, STRANGER, answers, backend, service, snapshot};
use crate::model::{Naming, Snapshot, Standing};
use crate::names::Names;

#[test]
fn ten_thousand_services_are_shown_soon_and_one_change_at_once() {
    let one = |n: u32, standing| {
        let [_, _, c, d] = n.to_be_bytes();
        let tasks = (1..=10).map(|task| {
            let address = format!("10.{task}.{c}.{d}");
            backend(&format!("s{n}.{task}"), "node2", &[&address], standing)
        });
        service(&format!("s{n}"), &[Naming::PUBLIC], tasks.collect())
    };
    let all = snapshot(1, (0..10_000).map(|n| one(n, Standing::Active)));
    let names = Names::new(HERE, [], false);
    let start = std::time::Instant::now();
    names.show(&all);
    eprintln!("10,000 services in {:?}", start.elapsed());
    let mut took = Vec::new();
    for generation in 2..=6 {
        let standing = [Standing::Active, Standing::Draining][generation as usize % 2];
        let mut next = Snapshot::clone(&all);
        next.generation = generation;
        next.services.insert("s77".into(), Arc::new(one(77, standing)));
        let start = std::time::Instant::now();
        names.show(&Arc::new(next));
        took.push(start.elapsed());
        let told = !answers(&names, STRANGER, "s77").is_empty();
        assert_eq!(told, standing == Standing::Active);
    }
    took.sort();
    eprintln!("one change in {:?}", took[2]);
    // A bound that holds for a debug build on a busy machine.
    assert!(took[2].as_millis() < 100, "{took:?}");
}
