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

#[test]
fn one_task_of_a_thousand_changes_among_ten_thousand_services() {
    let one = |n: u32, count: u32, standing| {
        let [_, _, c, d] = n.to_be_bytes();
        let mut tasks: Vec<_> = (1..=count)
            .map(|task| {
                let [_, _, e, f] = (task * 7).to_be_bytes();
                let address = format!("10.{}.{c}.{}", e ^ f, d ^ f);
                backend(&format!("s{n}.{task}"), "node2", &[&address], Standing::Active)
            })
            .collect();
        tasks[0].standing = standing;
        service(&format!("s{n}"), &[Naming::PUBLIC], tasks)
    };
    let small = (0..10_000)
        .filter(|n| *n != 77)
        .map(|n| one(n, 10, Standing::Active));
    let all = snapshot(1, small.chain([one(77, 1000, Standing::Active)]));
    let names = Names::new(HERE, [], false);
    names.show(&all);
    let mut took = Vec::new();
    for generation in 2..=12 {
        let standing = [Standing::Active, Standing::Draining][generation as usize % 2];
        let mut next = Snapshot::clone(&all);
        next.generation = generation;
        next.services
            .insert("s77".into(), Arc::new(one(77, 1000, standing)));
        let next = Arc::new(next);
        let start = std::time::Instant::now();
        names.show(&next);
        took.push(start.elapsed());
    }
    took.sort();
    eprintln!("one task of a thousand in {:?}", took[5]);
    assert!(took[5].as_millis() < 50, "{took:?}");
}
