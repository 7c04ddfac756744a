//! What became of the packets: the programs' per-CPU counters, added up.

use aya::maps::{MapData, PerCpuArray};
use lb_common::Verdict;
use lb_common::table::Counter;

use super::raw::Raw;
use crate::plane::CounterReport;

/// One line for each verdict. A counter that cannot be read shows as zero.
pub fn read(counters: &PerCpuArray<MapData, Raw<Counter>>) -> Vec<CounterReport> {
    let sum = |verdict: &Verdict| {
        let cpus = counters.get(&(*verdict as u32), 0).ok();
        let cpus = cpus.iter().flat_map(|values| values.iter());
        let (packets, bytes) = cpus.fold((0u64, 0u64), |(packets, bytes), Raw(counter)| {
            (
                packets.wrapping_add(counter.packets),
                bytes.wrapping_add(counter.bytes),
            )
        });
        CounterReport {
            verdict: verdict.label().to_owned(),
            packets,
            bytes,
        }
    };
    Verdict::ALL.iter().map(sum).collect()
}
