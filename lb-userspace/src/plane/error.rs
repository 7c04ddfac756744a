//! Why the eBPF plane cannot do what it was asked. Each message says what failed, on what, and what to do.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error(
        "this agent was built without the eBPF plane\n  fix: build it with the feature \"ebpf\" (cargo xtask setup brings the toolchain)"
    )]
    NotBuilt,
    #[error("cannot mount a bpf file system at {path}: {reason}\n  fix: {fix}", path = path.display())]
    Bpffs {
        path: PathBuf,
        reason: std::io::Error,
        fix: String,
    },
    #[error("cannot use the pin directory {path}: {reason}\n  fix: check its permissions, or set paths.pins to another directory on a bpf file system", path = path.display())]
    Pins { path: PathBuf, reason: std::io::Error },
    #[error("cannot {action} the map {map}: {reason}\n  traffic: what was programmed before goes on")]
    Map {
        action: &'static str,
        map: &'static str,
        reason: String,
    },
    #[error("the programs in this agent have no map {0}\n  fix: this build is not whole; build it again")]
    MissingMap(&'static str),
    #[error("the programs in this agent have no program {0}\n  fix: this build is not whole; build it again")]
    MissingProgram(&'static str),
    #[error(
        "the kernel refused the program {program}: {reason}\n  traffic: programs attached before go on\n  fix: portico check names what this kernel lacks"
    )]
    Program { program: &'static str, reason: String },
    #[error(
        "cannot load the programs: {reason}\n  traffic: programs attached before go on\n  fix: portico check names what this kernel lacks"
    )]
    Load { reason: String },
    #[error("cannot talk to the kernel about devices and routes: {0}")]
    Netlink(String),
    #[error("no snapshot has been applied yet")]
    Idle,
    #[error("{0} and {1} are not of one address family")]
    Families(std::net::IpAddr, std::net::IpAddr),
}
