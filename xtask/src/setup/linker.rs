//! bpf-linker: turns LLVM bitcode into the eBPF object.

use anyhow::{Context, Result};

use super::packages;
use crate::run::{command, output, run};

const VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

const LIBRARIES: &[(&str, &str)] = &[
    ("llvm-22-dev", "bpf-linker is built on LLVM 22"),
    ("libpolly-22-dev", "LLVM 22's static libraries refer to it"),
    ("libzstd-dev", "LLVM 22 is linked against it"),
    ("zlib1g-dev", "LLVM 22 is linked against it"),
];

/// Whether a bpf-linker can be run.
pub fn is_there() -> bool {
    output(&mut command("bpf-linker", &["--version"])).is_some()
}

/// What it calls itself.
pub fn version() -> String {
    output(&mut command("bpf-linker", &["--version"])).unwrap_or_else(|| "bpf-linker".into())
}

/// Builds and installs it with cargo where there is none.
pub fn install() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    packages::install(LIBRARIES)?;
    println!("setup: building bpf-linker {VERSION}, which links the eBPF programs (about a minute)");
    let mut install = command(
        "cargo",
        &["install", "bpf-linker", "--version", VERSION, "--locked"],
    );
    install
        .args(["--no-default-features", "--features", "llvm-22"])
        // Without it the build finds no LLVM to link.
        .env("LLVM_PREFIX", LLVM);
    run(&mut install)?;
    output(&mut command("bpf-linker", &["--version"]))
        .map(drop)
        .context("bpf-linker was installed but is not on PATH: add cargo's bin directory to it")
}
