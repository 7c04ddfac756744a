//! `portico trace`: the loaded program, run on one packet, telling its way.

mod packet;

use aya::TestRun;
use aya::programs::{SchedClassifier, TestRunOptions};
use lb_common::trace::{NOTHING, Step, Trace};
use lb_common::{Verdict, trace};

use super::host::Host;
use super::tables::Tables;
use crate::model::Snapshot;
use crate::plane::{EbpfError, Question, TraceReport, TraceStep};

/// Offset of `ifindex` in `struct __sk_buff`.
const IFINDEX: usize = 40;

/// Runs the program on the packet the question describes, as if it had come in on `device`.
pub fn run(
    program: &SchedClassifier,
    tables: &mut Tables,
    host: &Host,
    question: &Question,
    device: u32,
) -> Result<TraceReport, EbpfError> {
    let packet = packet::build(question)?;
    tables.maps.trace.set(0, Trace::BLANK)?;
    let mut context = [0u8; IFINDEX + 4];
    context[IFINDEX..].copy_from_slice(&device.to_ne_bytes());
    let mut options = TestRunOptions::new();
    options.data_in = Some(&packet);
    options.ctx_in = Some(&context);
    program.test_run(options).map_err(|error| EbpfError::Program {
        program: "trace",
        reason: super::maps::with_causes(&error),
    })?;
    let told = tables.maps.trace.get(0)?;
    Ok(report(&told, tables, host))
}

fn report(told: &Trace, tables: &Tables, host: &Host) -> TraceReport {
    let verdict = Verdict::ALL.get(told.verdict as usize);
    let pool = tables.pool_numbered(told.pool);
    let member = pool.and_then(|pool| match verdict {
        // It chooses as all tables do.
        Some(Verdict::Proxied) => tables.head_of(pool, told.slot),
        _ => pool
            .members
            .iter()
            .find(|member| member.candidate.tag == told.member),
    });
    let nodes = tables.applied().map(|snapshot| node_name(snapshot, told.node));
    let taken = told.steps.iter().take(usize::from(told.len).min(trace::STEPS));
    TraceReport {
        verdict: verdict.map_or("none", |verdict| verdict.label()).to_owned(),
        words: verdict
            .map_or("the program did not say", |verdict| verdict.words())
            .to_owned(),
        service: pool.map(|pool| pool.service.to_string()),
        slot: (told.pool != NOTHING).then_some(told.slot),
        task: member.map(|member| member.task.to_string()),
        node: member.map(|member| member.node.to_string()).or(nodes.flatten()),
        device: host.devices.get(&told.ifindex).map(|device| device.name.clone()),
        steps: taken.map(|taken| step(taken, tables, host)).collect(),
    }
}

fn node_name(snapshot: &Snapshot, tag: u16) -> Option<String> {
    snapshot
        .nodes
        .values()
        .find(|node| node.tag == tag)
        .map(|node| node.name.to_string())
}

/// A step in words, numbers replaced by names where there are names.
fn step(taken: &trace::Taken, tables: &Tables, host: &Host) -> TraceStep {
    let Some(step) = Step::of(taken.step) else {
        return TraceStep {
            step: "unknown".into(),
            words: format!("a step of another version ({})", taken.step),
        };
    };
    let named = match step {
        Step::Front => tables.pool_numbered(taken.value).map(|pool| {
            format!(
                "{} (port {} of service {})",
                taken.value, pool.target_port, pool.service
            )
        }),
        Step::Hinted | Step::Chase | Step::NoNode | Step::FromPeer | Step::Sent => tables
            .applied()
            .and_then(|snapshot| node_name(snapshot, taken.value as u16)),
        Step::Delivered => host.devices.get(&taken.value).map(|device| device.name.clone()),
        _ => None,
    };
    let value = named.unwrap_or_else(|| taken.value.to_string());
    TraceStep {
        step: step.label().to_owned(),
        words: step.words().replace("{}", &value),
    }
}
