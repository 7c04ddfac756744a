//! How an engine can fail.

use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused, with this status and the engine's words.
    Refuse(u16, String),
    /// Answered with something that is not what was asked for.
    Nonsense(String),
    /// Answered after this time.
    Late(Duration),
    /// Never answered.
    Hang,
}
