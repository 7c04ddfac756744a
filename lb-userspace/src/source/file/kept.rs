//! A copy of the last good services file, so that an agent that restarts beside a bad one knows what it served.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::parse;
use crate::model::Desired;

/// In the runtime directory.
const FILE: &str = "services.kept.yaml";

#[derive(Clone, Debug)]
pub struct Kept(PathBuf);

impl Kept {
    pub fn new(runtime: &Path) -> Self {
        Self(runtime.join(FILE))
    }

    /// Keeps a file that was good. Failing at it costs nothing but the copy.
    pub fn save(&self, text: &str) {
        let write = || -> io::Result<()> {
            let new = self.0.with_extension("new");
            let mut file = std::fs::File::create(&new)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(new, &self.0)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %self.0.display(), %error, "no copy of the services file is kept");
        }
    }

    /// What was kept, and when.
    pub fn recall(&self) -> Option<(Desired, SystemTime)> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let kept = std::fs::metadata(&self.0)
            .and_then(|metadata| metadata.modified())
            .ok()?;
        Some((parse(&self.0, &text).ok()?, kept))
    }
}
