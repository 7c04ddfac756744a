//! The control side at size: 10,000 services of ten backends on a hundred nodes.
//!
//! `read` is the services file, `first` the first snapshot, `one change` a failing backend's way into a new snapshot,
//! `difference` what a plane is then handed.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lb_userspace::model::compose::{Composer, Event};
use lb_userspace::model::{Desired, Diff, Drains, Identity};
use lb_userspace::source::file;

const SERVICES: u32 = 10_000;
const BACKENDS: u32 = 10;
const NODES: u32 = 100;

fn services_file() -> String {
    let mut text = String::from("nodes:\n");
    for node in 1..=NODES {
        let _ = writeln!(text, "  node{node}: 192.0.2.{node}");
    }
    text.push_str("services:\n");
    for service in 0..SERVICES {
        let port = 10_000 + service;
        let _ = writeln!(
            text,
            "  s{service}:\n    ports: [\"{port}:80\"]\n    health: {{ tcp: true }}\n    backends:"
        );
        for backend in 1..=BACKENDS {
            let node = (service + backend) % NODES + 1;
            let _ = writeln!(
                text,
                "      - {{ node: node{node}, address: 172.18.0.{backend}, task: t{backend} }}"
            );
        }
    }
    text
}

fn composer(desired: &Arc<Desired>) -> Composer {
    let mut composer = Composer::new(Identity::new([0; 32]), ["file".into()], Drains::default());
    composer.absorb(Event::Source {
        source: "file".into(),
        desired: Arc::clone(desired),
    });
    composer
}

fn model(c: &mut Criterion) {
    let text = services_file();
    let read = || file::parse(Path::new("services.yaml"), &text).expect("a file without mistakes");
    let desired = Arc::new(read());
    let mut group = c.benchmark_group("model/10000x10");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("read", |b| b.iter(|| black_box(read())));
    group.bench_function("first", |b| {
        b.iter_batched(
            || composer(&desired),
            |mut composer| composer.compose(Instant::now()),
            criterion::BatchSize::PerIteration,
        );
    });

    let mut composer = composer(&desired);
    let now = Instant::now();
    let mut before = composer.compose(now).expect("a first snapshot");
    // Service s7's backend t1 runs on node9.
    let failing = Identity::new([0; 32]).backend("s7", "t1");
    let mut flip = |fails: bool| {
        let unhealthy = fails.then_some(failing).into_iter().collect();
        composer.absorb(Event::Health {
            node: "node9".into(),
            unhealthy,
        });
        composer.compose(now)
    };
    let mut fails = false;
    group.sample_size(100);
    group.bench_function("one change", |b| {
        b.iter(|| {
            fails = !fails;
            black_box(flip(fails)).expect("a change");
        });
    });
    if let Some(restored) = fails.then(|| flip(false)).flatten() {
        before = restored;
    }
    let after = flip(true).expect("a change");
    assert_eq!(Diff::between(&before, &after).pools.len(), 1);
    group.bench_function("difference", |b| {
        b.iter(|| black_box(Diff::between(&before, &after)))
    });
    group.finish();
}

criterion_group!(benches, model);
criterion_main!(benches);
