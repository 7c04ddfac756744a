//! What the `trace` program writes down. In the programs that carry traffic `DRY` is false and nothing of this remains.

use lb_common::Verdict;
use lb_common::trace::{STEPS, Step, Taken};

use super::case::Choice;
use super::tables::TRACE;

/// Notes a step.
#[inline(always)]
pub fn step<const DRY: bool>(step: Step, value: u32) {
    if !DRY {
        return;
    }
    let Some(trace) = TRACE.get_ptr_mut(0) else { return };
    // SAFETY: a live map value that only one trace at a time writes.
    let trace = unsafe { &mut *trace };
    if let Some(taken) = trace.steps.get_mut(trace.len as usize % STEPS)
        && (trace.len as usize) < STEPS
    {
        *taken = Taken {
            step: step as u32,
            value,
        };
    }
    trace.len += 1;
}

/// Notes where the packet goes.
#[inline(always)]
pub fn choice<const DRY: bool>(choice: &Choice) {
    if !DRY {
        return;
    }
    let Some(trace) = TRACE.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let trace = unsafe { &mut *trace };
    trace.member = choice.tag;
    trace.pool = choice.pool;
    trace.slot = choice.slot;
    trace.node = choice.node;
}

/// Notes the end.
pub fn end(verdict: Verdict) {
    if let Some(trace) = TRACE.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*trace).verdict = verdict as u32 };
    }
}
