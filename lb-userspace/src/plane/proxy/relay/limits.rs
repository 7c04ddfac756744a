//! What nodes that relay to each other wait for, and how much they keep.

use std::time::Duration;

/// Finished handshakes that a dialer keeps for each node to which connections are relayed.
pub const SPARES: usize = 4;
/// How long one is kept, and how long any are after the last connection to a node.
pub const SPARE: Duration = Duration::from_secs(8);
/// How long a caller may have nothing to ask for: longer than it keeps a spare.
pub const ASKING: Duration = Duration::from_secs(15);
/// Callers at a time that have not asked for anything yet.
pub const CALLERS: usize = 8192;
/// Time for TCP and TLS of a spare.
pub const HANDSHAKE: Duration = Duration::from_secs(2);
/// Handshakes with one node for a dialer's clients at a time; others wait for their turn.
pub const HANDS: usize = 64;
/// Pause after a node could not be reached for a spare.
pub const AGAIN: Duration = Duration::from_secs(1);
/// How long a task may take to accept. The asking node mostly gives up before.
pub const TASK: Duration = Duration::from_secs(10);
/// Callers that wait for one thread to take them.
pub const QUEUE: usize = 1024;
/// Of datagrams to another node: bytes that the kernel takes before it has sent what it has.
pub const UNSENT: u32 = 128 << 10;
/// How long a connection for datagrams may have said something that the other node has not acknowledged.
pub const UNHEARD: Duration = Duration::from_secs(3);
