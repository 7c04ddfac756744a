//! `cargo xtask dist`: what is given to others.

mod image;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::fixed::{self, Profile};
use crate::run::{command, output};
use crate::setup::{Talk, setup};

/// What is made.
#[derive(Subcommand)]
pub enum Thing {
    /// The agent as one file that needs no other; prints where it is.
    Program {
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
    },
    /// A container image with that file alone, for `docker load` and `podman load`; prints where it is.
    Image {
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// The archive, by default `dist/portico-image.tar` in cargo's target directory.
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

/// Sets up, builds, and says where the result is.
pub fn dist(thing: &Thing) -> Result<()> {
    setup(Talk::OnlyOfChanges)?;
    match thing {
        Thing::Program { profile } => {
            println!("{}", fixed::build("lb-userspace", "portico", *profile)?.display());
        }
        Thing::Image { profile, output } => {
            let program = fixed::build("lb-userspace", "portico", *profile)?;
            let place = output.clone().unwrap_or_else(archive);
            write_image(&program, &place).with_context(|| format!("cannot write {}", place.display()))?;
            println!("{}", place.display());
        }
    }
    Ok(())
}

/// Where the image lies unless another place is named; tests look for it there.
fn archive() -> PathBuf {
    fixed::target().join("dist/portico-image.tar")
}

/// The archive appears at once and whole: an engine may be reading the one before.
fn write_image(program: &Path, place: &Path) -> Result<()> {
    let architecture = image::architecture(std::env::consts::ARCH);
    let facts = image::Facts {
        version: env!("CARGO_PKG_VERSION").into(),
        revision: revision(),
        architecture: architecture.context("no image can be made for this kind of machine")?,
        time: time(),
    };
    let directory = place
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory)?;
    }
    let program = stripped(program)?;
    let partial = place.with_extension("partial");
    image::write(&program, &facts, BufWriter::new(File::create(&partial)?))?;
    fs::rename(&partial, place)?;
    Ok(())
}

/// Without the tables for debuggers, which are most of the file.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let copy = program.with_extension("stripped");
    let status = command("strip", &["--strip-debug", "-o"])
        .args([&copy, program])
        .status()
        .context("cannot run strip, which comes with the linker (binutils)")?;
    if !status.success() {
        bail!("strip failed: {status}");
    }
    Ok(fs::read(&copy)?)
}

/// The commit, where this is a clean checkout of one.
fn revision() -> Option<String> {
    let changed = output(&mut command("git", &["status", "--porcelain"]))?;
    if !changed.is_empty() {
        return None;
    }
    output(&mut command("git", &["rev-parse", "HEAD"]))
}

/// What the environment says (reproducible-builds.org), else when the commit was made, else the epoch.
fn time() -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    given
        .or_else(|| output(&mut command("git", &["log", "-1", "--format=%ct"])))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0)
}
