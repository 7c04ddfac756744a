//! A label that has no effect, and why.

use std::sync::Arc;

use crate::source::Note;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// With its prefix.
    pub label: String,
    pub value: String,
    pub reason: String,
    pub fix: String,
}

/// Longest part of a value that is shown.
const SHOWN: usize = 80;

impl Fault {
    pub fn new(label: &str, value: &str, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        let plain = value.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut shown: String = plain.take(SHOWN).collect();
        if value.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Self {
            label: label
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(SHOWN)
                .collect(),
            value: shown,
            reason: reason.into(),
            fix: fix.into(),
        }
    }

    /// For people; `object` is what has the label, as `container web_1`.
    pub fn note(&self, object: &str, service: Option<Arc<str>>) -> Note {
        let Self {
            label,
            value,
            reason,
            fix,
        } = self;
        Note {
            service,
            what: format!("{object}: label {label}={value}: {reason}"),
            consequence: "served as if this were not written; everything else about it is in force".into(),
            fix: fix.clone(),
        }
    }
}
