//! A snapshot's way into the kernel at size: 10,000 services of ten backends on a hundred nodes, seen by one of them.
//!
//! `full load` is the first snapshot on empty maps, without the programs; `one change` a backend that fails or recovers, from
//! the new snapshot to the kernel; `one suspicion` a node, with a backend of every tenth service, that falls silent or is
//! heard again; `adoption` the same snapshot after a restart of the agent. It needs root, and works in a network namespace and
//! on a bpf file system of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::input::{HERE, SERVICE, SERVICES, TASK, agreed, identity, services_file};
use criterion::{Criterion, criterion_group, criterion_main};
use lb_userspace::config::Config;
use lb_userspace::model::compose::{Composer, Event};
use lb_userspace::model::{Drains, Snapshot};
use lb_userspace::plane::EbpfPlane;
use lb_userspace::source::file;

const PINS: &str = "/tmp/portico-bench-apply";

/// The desired state as snapshots, one backend failing and recovering.
struct Source {
    composer: Composer,
    now: Instant,
    failing: u64,
    fails: bool,
}

impl Source {
    fn new(slots: u32) -> (Self, Arc<Snapshot>) {
        let desired = file::parse(Path::new("services.yaml"), &services_file(slots)).expect("a good file");
        let failing = identity().backend(SERVICE, TASK);
        let mut composer = Composer::new(agreed(), ["file".into()], Drains::default());
        composer.absorb(Event::Source {
            source: "file".into(),
            desired: Arc::new(desired),
        });
        let now = Instant::now();
        let first = Arc::new(composer.compose(now).expect("a first snapshot"));
        (
            Self {
                composer,
                now,
                failing,
                fails: false,
            },
            first,
        )
    }

    fn next(&mut self) -> Arc<Snapshot> {
        self.fails = !self.fails;
        let unhealthy = self.fails.then_some(self.failing).into_iter().collect();
        self.composer.absorb(Event::Health {
            node: HERE.into(),
            unhealthy,
        });
        Arc::new(self.composer.compose(self.now).expect("a change"))
    }
}

fn config(slots: u32) -> Config {
    let text = format!(
        "node = \"{HERE}\"\n[paths]\npins = \"{PINS}\"\nruntime = \"{PINS}-run\"\n[cgroup]\nattach = false\n\
         [limits]\nslots = {}\nhosted_slots = {}\npools = 16384\nmembers = 262144\n",
        SERVICES * slots,
        SERVICES / 10 * slots,
    );
    Config::parse(Path::new("portico.toml"), &text).expect("a good configuration")
}

/// Fresh maps in a namespace of our own.
fn start(config: &Config, runtime: &tokio::runtime::Runtime) -> EbpfPlane {
    runtime
        .block_on(EbpfPlane::start(config))
        .expect("the plane starts")
}

fn forget_pins() {
    let _ = std::fs::remove_dir_all(format!("{PINS}/v{}", lb_common::table::LAYOUT));
}

fn apply(c: &mut Criterion) {
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for slots in [256, 4096] {
        let config = config(slots);
        let (mut source, first) = Source::new(slots);
        let mut group = c.benchmark_group(format!("apply/10000x10, {slots} slots"));
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        group.bench_function("full load", |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        forget_pins();
                        let plane = start(&config, &runtime);
                        let began = Instant::now();
                        plane.apply(&first).expect("it is applied");
                        began.elapsed()
                    })
                    .sum()
            });
        });
        group.bench_function("adoption", |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let began = Instant::now();
                        let plane = start(&config, &runtime);
                        plane.apply(&first).expect("it is applied");
                        began.elapsed()
                    })
                    .sum()
            });
        });
        let plane = start(&config, &runtime);
        plane.apply(&first).expect("it is applied");
        group.sample_size(100);
        let mut times = Vec::new();
        group.bench_function("one change", |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let began = Instant::now();
                        let next = source.next();
                        plane.apply(&next).expect("it is applied");
                        times.push(began.elapsed());
                        began.elapsed()
                    })
                    .sum()
            });
        });
        let mut last = source.next();
        plane.apply(&last).expect("it is applied");
        group.sample_size(10);
        group.bench_function("one suspicion", |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let mut next = Snapshot::clone(&last);
                        let node = next.nodes.get_mut("node10").expect("it is there");
                        node.suspected = !node.suspected;
                        last = Arc::new(next);
                        let began = Instant::now();
                        plane.apply(&last).expect("it is applied");
                        began.elapsed()
                    })
                    .sum()
            });
        });
        group.finish();
        times.sort();
        if let Some(p99) = times.get(times.len() * 99 / 100) {
            println!("one change, {} times: p99 {p99:?}", times.len());
        }
        drop(plane);
    }
    forget_pins();
    let _ = nix::mount::umount(PINS);
    let _ = std::fs::remove_dir(PINS);
    let _ = std::fs::remove_dir_all(format!("{PINS}-run"));
}

criterion_group!(benches, apply);
criterion_main!(benches);
