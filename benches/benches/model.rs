//! The control side at size: 10,000 services of ten backends on a hundred nodes.
//!
//! `read` is the services file, `first` the first snapshot, `one change` a failing backend's way into a new snapshot,
//! `difference` what the plane then finds to be carried out.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::input::{HERE, SERVICE, TASK, agreed, services_file};
use criterion::{Criterion, criterion_group, criterion_main};
use lb_userspace::model::compose::{Composer, Event};
use lb_userspace::model::{Desired, Diff, Drains, Identity};
use lb_userspace::source::file;

fn composer(desired: &Arc<Desired>) -> Composer {
    let mut composer = Composer::new(agreed(), ["file".into()], Drains::default());
    composer.absorb(Event::Source {
        source: "file".into(),
        desired: Arc::clone(desired),
    });
    composer
}

fn model(c: &mut Criterion) {
    let text = services_file(4096);
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
    let failing = Identity::new([0; 32]).backend(SERVICE, TASK);
    let mut flip = |fails: bool| {
        let unhealthy = fails.then_some(failing).into_iter().collect();
        composer.absorb(Event::Health {
            node: HERE.into(),
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
    assert_eq!(Diff::between(&before, &after, |_| false).changed.len(), 1);
    group.bench_function("difference", |b| {
        b.iter(|| black_box(Diff::between(&before, &after, |_| false)))
    });
    group.finish();
}

criterion_group!(benches, model);
criterion_main!(benches);
