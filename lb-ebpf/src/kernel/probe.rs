//! The agent's question about a task's socket, see [`lb_common::probe`].

use lb_common::key::{RevKey, TCP};
use lb_common::probe::{OFFSET, Probe, state};
use lb_common::{Address, Verdict};

use super::Path;
use super::skb::Skb;
use crate::frame::Frame;
use crate::parse::{Four, Six};

/// Answers in place.
#[inline(always)]
pub fn answer(skb: Skb) -> Verdict {
    let Some(mut probe) = skb.at::<Probe>(OFFSET) else {
        return Verdict::Truncated;
    };
    probe.state = if probe.family == 4 {
        ask::<Four>(skb, &probe)
    } else {
        ask::<Six>(skb, &probe)
    };
    match skb.put(OFFSET, probe) {
        Some(()) => Verdict::NotOurs,
        None => Verdict::Failed,
    }
}

#[inline(always)]
fn ask<V: Path>(skb: Skb, probe: &Probe) -> u32 {
    if probe.protocol != TCP {
        // A UDP flow has no socket of its own; the agent lets it go by its age.
        return state::NONE;
    }
    let key = RevKey {
        task: V::Address::narrow(probe.task),
        client: V::Address::narrow(probe.client),
        task_port: probe.task_port,
        client_port: probe.client_port,
        protocol: probe.protocol as u32,
    };
    V::state(skb, &key, probe.namespace)
}
