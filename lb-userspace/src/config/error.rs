//! What was wrong with `portico.toml`, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use super::{plain, suggest};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {error}\n  traffic: nothing was changed by this attempt\n  fix: name another file with --config, or see that root can read this one", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{}:{line}:{column}: {reason}\n  traffic: nothing was changed by this attempt\n  fix: {fix}", file.display())]
    Invalid {
        file: PathBuf,
        line: usize,
        column: usize,
        reason: String,
        fix: String,
    },
    #[error("{}: this host has no name that could be the node's\n  traffic: nothing was changed by this attempt\n  fix: set node = \"NAME\" as the services file calls this machine", file.display())]
    Nameless { file: PathBuf },
    #[error("{}: {reason}\n  traffic: nothing was changed by this attempt\n  fix: {fix}", file.display())]
    Contradictory {
        file: PathBuf,
        reason: String,
        fix: String,
    },
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: io::Error) -> Self {
        Self::Unreadable {
            file: file.into(),
            error,
        }
    }

    pub(super) fn nameless(file: &Path) -> Self {
        Self::Nameless { file: file.into() }
    }

    /// Values that are good each by itself.
    pub(super) fn contradictory(file: &Path, reason: String, fix: &str) -> Self {
        Self::Contradictory {
            file: file.into(),
            reason: plain(reason),
            fix: fix.into(),
        }
    }

    pub(super) fn invalid(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let before = text
            .get(..error.span().map_or(0, |span| span.start))
            .unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let (reason, fix) = suggest::from_serde(error.message()).unwrap_or_else(|| {
            (
                error.message().trim().replace('\n', "; "),
                "correct this line".to_owned(),
            )
        });
        Self::Invalid {
            file: file.into(),
            line,
            column,
            reason: plain(reason),
            fix: plain(fix),
        }
    }
}
