//! What choosing costs: one score, the head table of a service, what one change of it costs, and the owner's chains.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lb_common::hash::mix;
use lb_common::placement::{self, Candidate, State, score};
use lb_common::table::ChainSlot;
use std::hint::black_box;

const SEED: u64 = 0x706f_7274_6963_6f21;

/// A service of `n` active members on ten nodes, one activated after the other.
fn members(n: u64, weight: u16) -> Vec<Candidate> {
    let member = |number| Candidate {
        tag: mix(number),
        node: (number % 10) as u16 + 1,
        weight,
        peak: weight,
        state: State::Active,
        first: number,
        last: number,
        seen_first: 0,
        seen_last: u64::MAX,
    };
    (1..=n).map(member).collect()
}

/// Members, slots: the service of performance targets, and some that are larger.
const SIZES: [(u64, usize); 4] = [(10, 4096), (10, 16_384), (100, 65_536), (1000, 65_536)];

fn scores(c: &mut Criterion) {
    let mut group = c.benchmark_group("score");
    for weight in [1u16, 16, 256] {
        group.bench_with_input(BenchmarkId::new("weight", weight), &weight, |b, &weight| {
            b.iter(|| score(SEED, black_box(77), black_box(0x1234_5678_9abc_def0), weight));
        });
    }
}

fn head_tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("head table");
    group.sample_size(20);
    for (n, slots) in SIZES {
        let pool = members(n, 1);
        let mut table = vec![0u16; slots];
        group.throughput(Throughput::Elements(slots as u64));
        group.bench_function(
            BenchmarkId::new("fill", format!("{n} members, {slots} slots")),
            |b| {
                b.iter(|| placement::fill_heads(SEED, black_box(&pool), &mut table));
            },
        );
    }
    let weighted = members(10, 16);
    let mut table = vec![0u16; 4096];
    group.throughput(Throughput::Elements(4096));
    group.bench_function(
        BenchmarkId::new("fill", "10 members of weight 16, 4096 slots"),
        |b| {
            b.iter(|| placement::fill_heads(SEED, black_box(&weighted), &mut table));
        },
    );
}

fn one_change(c: &mut Criterion) {
    let mut group = c.benchmark_group("one member");
    group.sample_size(20);
    for (n, slots) in SIZES {
        let before = members(n - 1, 1);
        let after = members(n, 1);
        let mut draining = after.clone();
        draining[0].state = State::Draining;
        let table = |pool: &[Candidate]| {
            let mut table = vec![0u16; slots];
            placement::fill_heads(SEED, pool, &mut table);
            table
        };
        let (without, with) = (table(&before), table(&after));
        group.throughput(Throughput::Elements(slots as u64));
        let name = format!("{n} members, {slots} slots");
        group.bench_function(BenchmarkId::new("joins", &name), |b| {
            b.iter_batched_ref(
                || without.clone(),
                |table| placement::update_heads(SEED, &after, table, n as usize - 1),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("drains", &name), |b| {
            b.iter_batched_ref(
                || with.clone(),
                |table| placement::update_heads(SEED, &draining, table, 0),
                BatchSize::LargeInput,
            );
        });
    }
}

fn chain_tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("chain table");
    group.sample_size(10);
    for (n, slots) in SIZES {
        let known = members(n, 1);
        let unknown: Vec<_> = known
            .iter()
            .map(|m| Candidate {
                first: 0,
                last: u64::MAX,
                ..*m
            })
            .collect();
        let mut table = vec![ChainSlot::default(); slots];
        group.throughput(Throughput::Elements(slots as u64));
        for (stamps, pool) in [("stamps known", &known), ("unknown", &unknown)] {
            let name = format!("{n} members, {slots} slots, {stamps}");
            group.bench_function(BenchmarkId::new("fill", name), |b| {
                b.iter(|| placement::fill_chains(SEED, black_box(pool), &mut table));
            });
        }
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = scores, head_tables, one_change, chain_tables
}
criterion_main!(all);
