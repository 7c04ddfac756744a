//! Where the desired state comes from.

use std::sync::Arc;
use std::time::SystemTime;

pub mod backoff;
mod checks;
pub mod docker;
pub mod engine;
pub mod file;
pub mod kept;
pub mod labels;
pub mod ports;
mod proxying;
pub mod sift;
pub mod stream;
pub mod swarm;

/// How a source is doing, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// As in `[sources.NAME]`.
    pub name: &'static str,
    /// Where it reads, for people.
    pub place: String,
    /// When what is served now was loaded; none before the first success.
    pub loaded: Option<SystemTime>,
    /// What it held then.
    pub services: usize,
    pub backends: usize,
    pub nodes: usize,
    /// Why the latest change was refused: reason, consequence and remedy, several lines.
    pub error: Option<String>,
    /// What is wrong with single objects: the rest of the picture is served.
    pub notes: Vec<Note>,
}

impl SourceReport {
    /// Before anything was read.
    pub fn new(name: &'static str, place: impl Into<String>) -> Self {
        Self {
            name,
            place: place.into(),
            loaded: None,
            services: 0,
            backends: 0,
            nodes: 0,
            error: None,
            notes: Vec::new(),
        }
    }
}

/// Something that a source could not take as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The service that lacks it, where there is one.
    pub service: Option<Arc<str>>,
    /// What is wrong with what, and where it is written.
    pub what: String,
    /// What happens instead.
    pub consequence: String,
    pub fix: String,
}
