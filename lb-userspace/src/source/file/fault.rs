//! What was wrong with a services file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::{Error, Location};

use crate::config::{plain, suggest};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, from 1; none for the file as a whole.
    pub place: Option<(u64, u64)>,
    pub reason: String,
    pub fix: String,
}

/// All mistakes of a file, in the order of its lines: none of it is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    pub path: PathBuf,
    pub faults: Vec<Fault>,
}

/// Most mistakes shown; the rest is counted.
const SHOWN: usize = 10;

impl Fault {
    pub fn at(location: Location, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        let place = (location != Location::UNKNOWN).then(|| (location.line(), location.column()));
        Self {
            place,
            reason: plain(reason),
            fix: plain(fix),
        }
    }

    /// About the file as a whole.
    pub fn whole(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            place: None,
            reason: plain(reason),
            fix: plain(fix),
        }
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let (reason, fix) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                (format!("unknown key `{field}`"), suggest::advice(field, expected))
            }
            Error::SerdeUnknownVariant {
                variant, expected, ..
            } => (
                format!("unknown value `{variant}`"),
                suggest::advice(variant, expected),
            ),
            Error::SerdeMissingField { field, .. } => {
                (format!("`{field}` is missing"), format!("add {field}:"))
            }
            Error::DuplicateMappingKey { key, .. } => {
                let key = key.as_deref().unwrap_or("a key");
                (
                    format!("`{key}` is written twice"),
                    "keep one of the two".to_owned(),
                )
            }
            Error::Eof { .. } => (
                "the file ends in the middle of something".to_owned(),
                "write the file to its end".to_owned(),
            ),
            Error::InvalidScalar { ty: "u64", .. } => {
                ("not a whole number".to_owned(), "write digits only".to_owned())
            }
            Error::Unexpected {
                expected: "sequence start",
                ..
            } => (
                "a list is wanted here".to_owned(),
                "write [ITEM, ITEM]".to_owned(),
            ),
            Error::Unexpected {
                expected: "mapping start",
                ..
            } => (
                "keys with values are wanted here".to_owned(),
                "write KEY: VALUE".to_owned(),
            ),
            Error::MultipleDocuments { .. } => (
                "a second YAML document begins here".to_owned(),
                "put everything into one".to_owned(),
            ),
            other => {
                let text = other.to_string();
                let text = text.lines().next().unwrap_or_default();
                let reason = text.split_once(" at line ").map_or(text, |(reason, _)| reason);
                (
                    reason.to_owned(),
                    "correct this line, or write the file to its end".to_owned(),
                )
            }
        };
        Self::at(location, reason, fix)
    }
}

impl Refused {
    pub fn new(path: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.place);
        Self {
            path: path.into(),
            faults,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Fault { place, reason, fix }) in self.faults.iter().take(SHOWN).enumerate() {
            let newline = if number > 0 { "\n" } else { "" };
            let path = self.path.display();
            match place {
                Some((line, column)) => write!(f, "{newline}{path}:{line}:{column}: {reason}\n  fix: {fix}")?,
                None => write!(f, "{newline}{path}: {reason}\n  fix: {fix}")?,
            }
        }
        match self.faults.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: {more} more mistakes", self.path.display()),
        }
    }
}
