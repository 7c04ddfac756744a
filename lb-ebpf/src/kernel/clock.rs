//! Coarse time, counters, and the limits on what strangers can make a node do.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::table::Spent;
use lb_common::{Verdict, tick};

use super::tables::{COUNTER, LIMIT};

/// Ticks since boot, see [`lb_common::tick`].
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: takes nothing, returns a number.
    tick::from_nanoseconds(unsafe { bpf_ktime_get_coarse_ns() })
}

/// Counts one packet of `bytes` under its verdict.
#[inline(always)]
pub fn count(verdict: Verdict, bytes: usize) {
    if let Some(counter) = COUNTER.get_ptr_mut(verdict as u32) {
        // SAFETY: the element of this CPU, on which no other program runs meanwhile.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }
}

/// Takes one from this CPU's allowance of `allowed` per tick; false where it is used up.
#[inline(always)]
pub fn spend(index: u32, allowed: u32, now: u32) -> bool {
    let Some(spent) = LIMIT.get_ptr_mut(index) else {
        return false;
    };
    // SAFETY: the element of this CPU, on which no other program runs meanwhile.
    let spent = unsafe { &mut *spent };
    if spent.tick != now {
        *spent = Spent { tick: now, count: 0 };
    }
    spent.count += 1;
    spent.count <= allowed
}
