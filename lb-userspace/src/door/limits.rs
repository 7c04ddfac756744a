//! How many callers may be on the doorstep, and how long.

use std::time::Duration;

/// Time for a whole handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(2);
/// Handshakes at a time.
pub const HANDSHAKES: usize = 4096;
/// Of them, those of one address from which many are expected: another node, with all that its clients ask for.
pub const EXPECTED: usize = 1024;
/// Of them, those of any other address.
pub const UNEXPECTED: usize = 4;
/// After an error that is the machine's, not the caller's.
pub const BREATH: Duration = Duration::from_millis(100);
/// Before a port that could not be had is tried again.
pub const AGAIN: Duration = Duration::from_secs(2);
/// How long a refused caller may take to read why.
pub const FAREWELL: Duration = Duration::from_millis(500);
