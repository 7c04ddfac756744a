//! What every packet costs before a table is touched: the flow hash and its slot, and a checksum brought up to date.

use criterion::{Criterion, criterion_group, criterion_main};
use lb_common::checksum::Difference;
use lb_common::hash::{flow_hash, slot};
use std::hint::black_box;

const SEED: u64 = 0x706f_7274_6963_6f21;

fn flow_hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow hash and slot");
    let six = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    group.bench_function("IPv4", |b| {
        b.iter(|| {
            slot(
                flow_hash(SEED, black_box([192, 0, 2, 1]), black_box(0x5000_c001), 6),
                4096,
            )
        });
    });
    group.bench_function("IPv6", |b| {
        b.iter(|| slot(flow_hash(SEED, black_box(six), black_box(0x5000_c001), 6), 4096));
    });
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("translation's checksum");
    group.bench_function("IPv4", |b| {
        b.iter(|| {
            Difference::new()
                .replace4(black_box([192, 0, 2, 11]), black_box([172, 18, 0, 2]))
                .replace2(black_box([0x1f, 0x90]), black_box([0, 80]))
                .apply(black_box([0x12, 0x34]))
        });
    });
    group.bench_function("IPv6", |b| {
        b.iter(|| {
            Difference::new()
                .replace16(black_box(&[0x20; 16]), black_box(&[0xfd; 16]))
                .replace2(black_box([0x1f, 0x90]), black_box([0, 80]))
                .apply(black_box([0x12, 0x34]))
        });
    });
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = flow_hashes, checksums
}
criterion_main!(all);
