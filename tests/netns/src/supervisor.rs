//! The process that cleans up when its owner is gone, however the owner went.
//!
//! It holds one end of a pipe to the owner, and a mount namespace with a bpffs of its own: agents run in that
//! namespace, so their pins outlive an agent, are seen by nobody else, and vanish with the cluster.

mod names;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::namespace::Namespace;
use crate::state::{HOME, directory};
use crate::{cgroup, engine, tool, wait};

/// Where agents find bpffs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The owner's end.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
}

impl Supervisor {
    /// Starts one for a cluster. A detached one waits until it is killed, not for its owner's end.
    pub fn start(prefix: &str, detached: bool) -> Result<Self> {
        let mut command = Command::new(tool::program("portico-lab")?);
        command.args(["supervise", prefix]).stdout(Stdio::piped());
        if detached {
            command
                .arg("--detached")
                .stdin(Stdio::null())
                .stderr(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().context("cannot start the lab's supervisor")?;
        let output = child.stdout.take().context("the supervisor has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line != "ready\n" {
            let _ = child.kill();
            bail!("the lab's supervisor did not start: {}", child.wait()?);
        }
        Ok(Self { child })
    }

    /// Ends it, once there is nothing left to clean.
    pub fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Leaves it running after its owner.
    pub fn leave(self) {}
}

/// The mounts of a cluster's agents.
pub fn mounts(prefix: &str) -> Result<File> {
    let pid = find(prefix)
        .with_context(|| format!("the supervisor of {prefix} is not running: bring the lab up again"))?;
    Ok(File::open(format!("/proc/{pid}/ns/mnt"))?)
}

/// The supervisor's whole life.
pub fn supervise(prefix: &str, detached: bool) -> Result<()> {
    setsid()?;
    let outside = File::open("/proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)
        .with_context(|| format!("cannot mount bpffs on {BPFFS}"))?;
    println!("ready");
    std::io::stdout().flush()?;
    if detached {
        loop {
            nix::unistd::pause();
        }
    }
    let mut ignored = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut ignored);
    setns(outside, CloneFlags::CLONE_NEWNS)?;
    sweep(prefix)
}

/// Writes names of namespaces down before they are made.
pub fn note(prefix: &str, names: &[String]) -> Result<()> {
    fs::create_dir_all(directory(prefix))?;
    names::claim()?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(list(prefix))?;
    file.write_all(
        names
            .iter()
            .map(|name| format!("{name}\n"))
            .collect::<String>()
            .as_bytes(),
    )?;
    Ok(())
}

/// The names written down for a cluster.
pub fn names(prefix: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(list(prefix)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Removes a cluster: processes, namespaces (and with them devices and programs), files. Nothing there is no error.
pub fn sweep(prefix: &str) -> Result<()> {
    if !list(prefix).exists() {
        return Ok(());
    }
    remove(&names(prefix))?;
    cgroup::end(prefix)?;
    cgroup::remove(prefix)?;
    fs::remove_dir_all(directory(prefix))
        .with_context(|| format!("cannot remove {}", directory(prefix).display()))?;
    names::release();
    // Only where it is empty.
    if fs::remove_dir(HOME).is_ok() {
        engine::uncover();
    }
    Ok(())
}

/// Ends the processes of some namespaces, then the namespaces.
pub fn remove(names: &BTreeSet<String>) -> Result<()> {
    let there: Vec<Namespace> = names
        .iter()
        .map(Namespace::named)
        .filter(Namespace::exists)
        .collect();
    wait::until("the cluster's processes end", Duration::from_secs(10), || {
        let left = processes(&there);
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        left.is_empty()
    })?;
    let lines: Vec<String> = there
        .iter()
        .map(|namespace| format!("netns del {}", namespace.name()))
        .collect();
    tool::ip(None, &lines)
}

/// Ends a supervisor that has no owner.
pub fn dismiss(prefix: &str) {
    if let Some(pid) = find(prefix) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let _ = wait::until("the supervisor ends", Duration::from_secs(5), || {
            find(prefix).is_none()
        });
    }
}

/// Clusters whose supervisor is gone: of a machine that lost both, say.
pub fn orphans() -> Vec<String> {
    let Ok(clusters) = fs::read_dir(HOME) else {
        return Vec::new();
    };
    clusters
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|prefix| directory(prefix).is_dir())
        .filter(|prefix| find(prefix).is_none())
        .collect()
}

/// Processes that live in any of these namespaces; zombies have none.
pub fn processes(namespaces: &[Namespace]) -> Vec<i32> {
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .filter_map(|namespace| Some(namespace.open().ok()?.metadata().ok()?.ino()))
        .collect();
    inside(&inodes)
}

/// Processes, but this one, in a namespace for networks or mounts that has one of these inodes.
pub fn inside(inodes: &BTreeSet<u64>) -> Vec<i32> {
    let lives = |pid: i32, kind: &str| {
        fs::metadata(format!("/proc/{pid}/ns/{kind}")).is_ok_and(|file| inodes.contains(&file.ino()))
    };
    pids()
        .filter(|pid| lives(*pid, "net") || lives(*pid, "mnt"))
        .filter(|pid| *pid != std::process::id() as i32)
        .collect()
}

fn find(prefix: &str) -> Option<i32> {
    pids().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words
            .next()
            .is_some_and(|program| program.ends_with(b"portico-lab"))
            && words.next() == Some(b"supervise")
            && words.next() == Some(prefix.as_bytes())
    })
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn list(prefix: &str) -> std::path::PathBuf {
    directory(prefix).join("namespaces")
}
