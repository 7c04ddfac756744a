//! The Rust toolchain that compiles for the BPF target.
//!
//! A rustup nightly with rust-src is preferred where there also is a bpf-linker: it is what eBPF people in Rust have.
//! Otherwise Debian's rustc-web, which brings a prebuilt core for the BPF target. lb-userspace's build script follows
//! the same rule.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{linker, packages};
use crate::run::{command, output, run};

/// Which toolchain builds the eBPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    Nightly,
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc-web (rustup toolchain \"debian\")",
        })
    }
}

const COMPILER: &[(&str, &str)] = &[
    (
        "rustc-web",
        "a Rust compiler with the BPF target, for the eBPF programs",
    ),
    (
        "libstd-rust-web-dev-bpf",
        "its core library, prebuilt for the BPF target",
    ),
];

/// Decides, installs what the choice lacks, and says which it is.
pub fn prepare() -> Result<Toolchain> {
    let installed = output(&mut command("rustup", &["toolchain", "list", "--verbose"])).context(
        "rustup cannot be run; it is needed to have a second compiler, for the eBPF programs: \
         install rustup, or build without them (cargo build --no-default-features)",
    )?;
    if has_nightly_with_sources(&installed) && linker::is_there() {
        return Ok(Toolchain::Nightly);
    }
    packages::install(COMPILER)?;
    linker::install()?;
    if path_of(&installed, "debian").is_none() {
        println!("setup: making /usr/bin/rustc known to rustup as toolchain \"debian\"");
        run(&mut command("rustup", &["toolchain", "link", "debian", "/usr"]))?;
    }
    Ok(Toolchain::Debian)
}

fn has_nightly_with_sources(installed: &str) -> bool {
    path_of(installed, "nightly").is_some_and(|path| {
        Path::new(path)
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
    })
}

/// The directory of the first toolchain called `name` or `name-HOST` in what rustup lists.
fn path_of<'a>(installed: &'a str, name: &str) -> Option<&'a str> {
    installed.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let called = words.next()?;
        let rest = called.strip_prefix(name)?;
        // nightly-2026-05-20-HOST is pinned for something else.
        let host = rest
            .strip_prefix('-')
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
        (rest.is_empty() || host).then(|| words.last()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
stable-x86_64-unknown-linux-gnu (active, default) /root/.rustup/toolchains/stable-x86_64-unknown-linux-gnu
nightly-2025-01-01-x86_64-unknown-linux-gnu /root/.rustup/toolchains/old
nightly-x86_64-unknown-linux-gnu /root/.rustup/toolchains/nightly-x86_64-unknown-linux-gnu
debian /usr";

    #[test]
    fn toolchains_are_found_by_channel_not_by_date() {
        let nightly = Some("/root/.rustup/toolchains/nightly-x86_64-unknown-linux-gnu");
        assert_eq!(path_of(LISTED, "nightly"), nightly);
        assert_eq!(path_of(LISTED, "debian"), Some("/usr"));
        assert_eq!(path_of(LISTED, "beta"), None);
    }
}
