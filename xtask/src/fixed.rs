//! Programs that need no file beside them: linked with everything they use, so that an image holds nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::run::{cargo, command, output, root, run};

/// How much the compiler does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build; what tests use.
    Dev,
    /// Quick to run; what is given to others.
    #[default]
    Release,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// Cargo's name for the directory of its results.
    const fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds `program` of `package` and tells where it lies.
pub fn build(package: &str, program: &str, profile: Profile) -> Result<PathBuf> {
    let host = host()?;
    run(&mut builder(&host, &[(package, program)], profile))?;
    let built = place(&target(), &host, profile).join(program);
    check(&built)?;
    Ok(built)
}

/// The command that builds programs, each given with its package, for `host`.
///
/// The target is named although it is this machine: that keeps the flags away from build scripts and macros, which
/// share their results with ordinary builds, and the programs in a directory of their own. The packet programs are built
/// with flags of their own, whatever the environment says (`aya_build`).
pub fn builder(host: &str, programs: &[(&str, &str)], profile: Profile) -> Command {
    let mut build = cargo(&["build", "--target", host, "--profile", profile.name()]);
    for (package, program) in programs {
        build.args(["--package", package, "--bin", program]);
    }
    // Flags of the environment go before those of a configuration file, so this is the place where they cannot get lost.
    build.env(
        "RUSTFLAGS",
        flags(std::env::var("RUSTFLAGS").ok().as_deref(), profile),
    );
    build.env_remove("CARGO_ENCODED_RUSTFLAGS");
    build
}

/// Where [`builder`] leaves programs, below cargo's target directory.
pub fn place(target: &Path, host: &str, profile: Profile) -> PathBuf {
    target.join(host).join(profile.directory())
}

/// The triple of the machine that the compiler runs on.
pub fn host() -> Result<String> {
    let said = output(&mut command("rustc", &["-vV"])).context("rustc cannot be run")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |given| root().join(given))
}

fn flags(given: Option<&str>, profile: Profile) -> String {
    let given = given.map(|given| format!("{given} ")).unwrap_or_default();
    // Tests hand the program to several engines, which pack, hash and unpack it: without line tables it is a fourth.
    let small = match profile {
        Profile::Dev => " -Cdebuginfo=0 -Cstrip=debuginfo",
        Profile::Release => "",
    };
    format!("{given}-Ctarget-feature=+crt-static{small}")
}

/// A program that asks for a loader would fail in an image with a message that misleads ("no such file").
fn check(program: &Path) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    if asks_for_a_loader(&bytes) {
        bail!("{} needs libraries of the system it runs on", program.display());
    }
    Ok(())
}

/// Whether an ELF file has a segment of type PT_INTERP; false for what is no 64-bit little-endian ELF file.
fn asks_for_a_loader(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        )
    };
    let segments = || -> Option<Vec<u64>> {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|n| number(usize::try_from(start + n * size).ok()?, 4))
            .collect()
    };
    segments().is_some_and(|types| types.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::line;

    #[test]
    fn the_flag_is_added_to_those_that_are_there() {
        assert_eq!(flags(None, Profile::Release), "-Ctarget-feature=+crt-static");
        assert_eq!(
            flags(Some("-Cdebuginfo=1"), Profile::Release),
            "-Cdebuginfo=1 -Ctarget-feature=+crt-static"
        );
        assert!(flags(None, Profile::Dev).starts_with("-Ctarget-feature=+crt-static "));
    }

    #[test]
    fn programs_are_built_for_a_target_that_is_named() {
        let built = line(&builder(
            "here-linux-gnu",
            &[("netns", "portico-task")],
            Profile::Dev,
        ));
        assert!(
            built.ends_with(
                "cargo build --target here-linux-gnu --profile dev --package netns --bin portico-task"
            ),
            "{built}"
        );
        assert_eq!(
            place(Path::new("/t"), "here-linux-gnu", Profile::Dev),
            Path::new("/t/here-linux-gnu/debug")
        );
    }

    #[test]
    fn the_compiler_says_where_it_runs() {
        assert!(host().unwrap().contains("-linux-"));
    }

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(asks_for_a_loader(&own), "tests are linked dynamically");
        assert!(!asks_for_a_loader(&own[..40]));
        assert!(!asks_for_a_loader(b"#!/bin/sh"));
    }
}
