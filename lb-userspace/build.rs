//! Builds the packet programs (crate `lb-ebpf`) for the BPF machine, to be embedded by `plane::ebpf`, and the messages of
//! `proto/` for `source::stream`.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    messages::build()?;
    #[cfg(feature = "ebpf")]
    programs::build()?;
    Ok(())
}

mod messages {
    use anyhow::Result;

    const FILE: &str = "mesh.proto";
    const DIRECTORY: &str = "proto";

    /// A compiler of its own reads the file: no machine needs protoc.
    pub fn build() -> Result<()> {
        println!("cargo:rerun-if-changed={DIRECTORY}");
        let files = protox::compile([FILE], [DIRECTORY])?;
        tonic_prost_build::configure()
            // Connections are made and taken by `source::stream`, with certificates that change.
            .build_transport(false)
            // Bodies of updates are shared by all followers.
            .bytes(".portico.mesh.v1.Update")
            .compile_fds(files)?;
        Ok(())
    }
}

#[cfg(feature = "ebpf")]
mod programs {
    use std::path::PathBuf;
    use std::process::Command;

    use anyhow::Result;
    use aya_build::{Package, Toolchain};

    /// rustup's name for Debian's compiler, as `cargo xtask setup` links it.
    const DEBIAN: &str = "debian";
    const NIGHTLY: &str = "nightly";

    pub fn build() -> Result<()> {
        for crate_root in ["../lb-ebpf", "../lb-common"] {
            println!("cargo:rerun-if-changed={crate_root}");
        }
        println!("cargo:rerun-if-env-changed=PATH");
        let Some(toolchain) = toolchain() else {
            eprintln!(
                "no toolchain for eBPF programs: neither rustup's nightly with rust-src nor a toolchain \"{DEBIAN}\" \
                 with the bpfel-unknown-none target, together with bpf-linker on PATH.\n\
                 Run `cargo xtask setup` to install what is missing, or build without the eBPF plane: \
                 `cargo build --no-default-features`"
            );
            std::process::exit(1);
        };
        // What cargo says inside becomes a warning of this build each time: only errors are worth that.
        // SAFETY: a build script has one thread, and nothing reads the environment meanwhile.
        unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
        if toolchain == DEBIAN {
            // SAFETY: a build script has one thread, and nothing reads the environment meanwhile.
            // Debian's is a stable compiler with a prebuilt core; aya-ebpf needs unstable features of it.
            unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf") };
        }
        aya_build::build_ebpf(
            [Package {
                name: "lb-ebpf",
                root_dir: "../lb-ebpf",
                ..Package::default()
            }],
            Toolchain::Custom(toolchain),
        )
    }

    /// A nightly that can build `core` for itself, else a compiler that brings `core` for BPF with it.
    fn toolchain() -> Option<&'static str> {
        let linker = Command::new("bpf-linker").arg("--version").output().ok()?;
        if !linker.status.success() {
            return None;
        }
        let has = |toolchain, file: &str| sysroot(toolchain).is_some_and(|root| root.join(file).exists());
        if has(NIGHTLY, "lib/rustlib/src/rust/library/core/Cargo.toml") {
            Some(NIGHTLY)
        } else if has(DEBIAN, "lib/rustlib/bpfel-unknown-none/lib") {
            Some(DEBIAN)
        } else {
            None
        }
    }

    fn sysroot(toolchain: &str) -> Option<PathBuf> {
        let output = Command::new("rustup")
            .args(["run", toolchain, "rustc", "--print", "sysroot"])
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(path.trim()))
    }
}
