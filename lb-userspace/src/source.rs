//! Where the desired state comes from.

use std::path::PathBuf;
use std::time::SystemTime;

pub mod file;

/// How a source is doing, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// As in `[sources.NAME]`.
    pub name: &'static str,
    pub path: PathBuf,
    /// When what is served now was loaded; none before the first success.
    pub loaded: Option<SystemTime>,
    /// What it held then.
    pub services: usize,
    pub backends: usize,
    pub nodes: usize,
    /// Why the latest change was refused: reason, consequence and remedy, several lines.
    pub error: Option<String>,
}
