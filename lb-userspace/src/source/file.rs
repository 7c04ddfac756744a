//! The services file: YAML, watched. A bad edit is refused with line and reason, and what was served goes on being
//! served. `docs/configuration.md` describes the format.

mod addresses;
mod convert;
mod fault;
mod kept;
mod raw;
mod watch;
mod writers;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::model::Desired;

pub use fault::{Fault, Refused};
pub use watch::start;

/// What this source is called.
pub const NAME: &str = "file";

/// Reads a services file; `path` is for messages only.
pub fn parse(path: &Path, text: &str) -> Result<Desired, Refused> {
    let raw = raw::read(text).map_err(|fault| Refused::new(path, vec![fault]))?;
    convert::desired(raw).map_err(|faults| Refused::new(path, faults))
}
