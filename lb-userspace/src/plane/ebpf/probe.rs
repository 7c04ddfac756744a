//! Asks, through the `probe` program, whether a task still has the socket of a flow.

use aya::TestRun;
use aya::programs::{SchedClassifier, TestRunOptions};
use lb_common::probe::{OFFSET, Probe, state};
use lb_common::table::namespace;

use super::raw::{bytes_of, from_bytes};

/// The kernel's states of a TCP socket that ends or has ended by itself.
const TIME_WAIT: u32 = 6;
const CLOSE: u32 = 7;

/// What is known of a flow's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Alive,
    Gone,
    /// It could not be asked: the task's namespace is not known. Such a flow is given the benefit of the doubt.
    Unknown,
}

/// Runs the program on one question.
pub fn ask(program: &SchedClassifier, question: &Probe) -> Socket {
    if question.namespace == namespace::UNKNOWN {
        return Socket::Unknown;
    }
    let mut packet = vec![0u8; OFFSET];
    packet.extend_from_slice(bytes_of(question));
    let mut answer = vec![0u8; packet.len()];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&packet);
    options.data_out = Some(&mut answer);
    if let Err(error) = program.test_run(options) {
        tracing::debug!(%error, "the probe program cannot be run");
        return Socket::Unknown;
    }
    match from_bytes::<Probe>(&answer[OFFSET..]).map(|probe| probe.state) {
        None | Some(state::UNASKED) => Socket::Unknown,
        Some(state::NONE | state::LISTEN | TIME_WAIT | CLOSE) => Socket::Gone,
        Some(_) => Socket::Alive,
    }
}
