//! What the agent asks the `probe` program: does a task still have the socket of this flow?
//!
//! The agent runs the program once per question (BPF_PROG_TEST_RUN). The packet is an Ethernet header, whose content
//! does not matter, followed by a [`Probe`]; the program writes its answer into it, and the agent reads it from the
//! packet that comes back. A look into the task's namespace through its id needs no process inside it.

use crate::{Plain, V6};

/// Bytes before the [`Probe`]: an Ethernet header.
pub const OFFSET: usize = 14;

/// One question and its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// The task's address; see [`Address::widen`](crate::Address::widen).
    pub task: V6,
    /// The client's, likewise.
    pub client: V6,
    pub task_port: [u8; 2],
    /// The port that the task sees the client under.
    pub client_port: [u8; 2],
    /// 4 or 6.
    pub family: u8,
    /// [`key::TCP`](crate::key::TCP) or [`key::UDP`](crate::key::UDP).
    pub protocol: u8,
    pub pad: [u8; 2],
    /// Id of the task's network namespace, as [`Local::namespace`](crate::table::Local::namespace).
    pub namespace: i32,
    /// The answer; the agent sends [`state::UNASKED`].
    pub state: u32,
}

/// Values of [`Probe::state`]: the kernel's TCP states, and two of our own. A UDP socket counts as established.
pub mod state {
    /// No socket, neither for this flow nor listening.
    pub const NONE: u32 = 0;
    pub const ESTABLISHED: u32 = 1;
    /// A listening socket takes the port: it is not the flow's.
    pub const LISTEN: u32 = 10;
    /// The program did not answer.
    pub const UNASKED: u32 = u32::MAX;
}

// SAFETY: repr(C) with explicit padding, as the size shows; integers and byte arrays only.
unsafe impl Plain for Probe {}
const _: () = assert!(size_of::<Probe>() == 48);
