//! `cargo xtask setup` on machines made of scripts: what it brings, in which order, and what it says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The only directory that programs are found in. Those that can change something write into `log` how they were called.
struct Machine(PathBuf);

impl Machine {
    /// Debian, as root, with rustup and cargo, and nothing of what set-up brings.
    fn bare(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("portico-setup-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let machine = Self(directory);
        machine.has("id", "echo 0");
        machine.has("dpkg-query", "");
        machine.has("apt-get", "");
        machine.has(
            "rustup",
            "echo stable-x86_64-unknown-linux-gnu /toolchains/stable",
        );
        // What `cargo install bpf-linker` leaves.
        let linker = machine.0.join("bpf-linker");
        let script = format!(
            "echo '#!/bin/sh' > {0}; echo 'echo bpf-linker 0.13.0' >> {0}; /bin/chmod +x {0}",
            linker.display()
        );
        machine.has("cargo", &script);
        machine
    }

    /// Puts a program there.
    fn has(&self, name: &str, script: &str) {
        let file = self.0.join(name);
        // These only ask.
        let log = match name {
            "id" | "dpkg-query" => String::new(),
            _ => format!("echo \"{name} $*\" >> {}", self.0.join("log").display()),
        };
        let text = format!("#!/bin/sh\n{log}\n{script}\n");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn lacks(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    fn set_up(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("setup")
            .env("PATH", &self.0)
            .output()
            .unwrap()
    }

    /// The calls that change something.
    fn changes(&self) -> Vec<String> {
        let log = fs::read_to_string(self.0.join("log")).unwrap();
        let asks = [
            "apt-get --version",
            "bpf-linker --version",
            "rustup toolchain list",
        ];
        log.lines()
            .filter(|line| !asks.iter().any(|ask| line.starts_with(ask)))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_bare_machine_gets_tools_compiler_linker_and_toolchain_and_is_told_why() {
    let machine = Machine::bare("bare");
    let output = machine.set_up();
    let (said, complained) = words(&output);
    assert!(output.status.success(), "{said}{complained}");
    let changes = machine.changes();
    let order = [
        "apt-get install --yes --no-install-recommends iproute2 nftables",
        "apt-get install --yes --no-install-recommends rustc-web",
        "apt-get install --yes --no-install-recommends llvm-22-dev",
        "cargo install bpf-linker --version",
        "rustup toolchain link debian /usr",
    ];
    assert_eq!(changes.len(), order.len(), "{changes:#?}");
    for (change, begins) in changes.iter().zip(order) {
        assert!(change.starts_with(begins), "{change} instead of {begins}");
    }
    for reason in [
        "network namespaces and devices of the virtual cluster",
        "a Rust compiler with the BPF target, for the eBPF programs",
        "building bpf-linker",
        "making /usr/bin/rustc known to rustup",
        "everything is there; eBPF is built by Debian's rustc-web",
    ] {
        assert!(said.contains(reason), "{reason} is missing in:\n{said}");
    }
}

#[test]
fn a_machine_that_has_everything_is_left_alone() {
    let machine = Machine::bare("whole");
    // Says of every package it is asked about that it is there.
    let all = r#"for word; do case "$word" in -*) ;; *) echo "$word installed" ;; esac; done"#;
    machine.has("dpkg-query", all);
    machine.has("bpf-linker", "echo bpf-linker 0.13.0");
    machine.has(
        "rustup",
        "echo stable-x86_64-unknown-linux-gnu /toolchains/stable; echo debian /usr",
    );
    let output = machine.set_up();
    let (said, complained) = words(&output);
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(machine.changes(), Vec::<String>::new());
}

#[test]
fn a_machine_without_apt_is_told_what_to_install() {
    let machine = Machine::bare("strange");
    machine.lacks("apt-get");
    let output = machine.set_up();
    let (_, complained) = words(&output);
    assert!(!output.status.success());
    assert!(complained.contains("this system has no apt-get"), "{complained}");
    assert!(
        complained.contains("apt-get install iproute2 nftables"),
        "{complained}"
    );
}

#[test]
fn a_machine_without_rustup_is_told_how_to_do_without_ebpf() {
    let machine = Machine::bare("without");
    machine.lacks("rustup");
    let output = machine.set_up();
    let (_, complained) = words(&output);
    assert!(!output.status.success());
    assert!(complained.contains("install rustup"), "{complained}");
    assert!(complained.contains("--no-default-features"), "{complained}");
}
