//! One network namespace, by its name under /run/netns.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A machine of the virtual cluster, as far as the network goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Refers to a namespace; it need not exist yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn exists(&self) -> bool {
        self.open().is_ok()
    }

    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(format!("{NAMES}/{}", self.name))
    }

    /// Takes the calling thread into the namespace, for good. Sockets it makes from then on belong there.
    pub fn enter(&self) -> Result<()> {
        let file = self
            .open()
            .with_context(|| format!("no namespace {}", self.name))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name))
    }

    /// Runs a function inside the namespace, on a thread of its own, and waits for it.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let runner = scope.spawn(|| {
                self.enter()?;
                Ok(inside())
            });
            runner
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a function inside the namespace, on a thread of its own.
    pub fn spawn<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> Running<T> {
        let own = self.clone();
        Running(thread::spawn(move || {
            own.enter()?;
            Ok(inside())
        }))
    }

    /// Starts asynchronous work inside the namespace, on a thread and a runtime of its own.
    pub fn spawn_async<F>(&self, inside: impl FnOnce() -> F + Send + 'static) -> Running<F::Output>
    where
        F: Future,
        F::Output: Send + 'static,
    {
        let own = self.clone();
        Running(thread::spawn(move || {
            own.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(inside()))
        }))
    }

    /// A command that will run inside the namespace. Unlike `ip netns exec` it keeps /sys as it is.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self
            .open()
            .with_context(|| format!("no namespace {}", self.name))?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only a system call is made; the file is open for as long as the command is.
        unsafe { command.pre_exec(move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)) };
        Ok(command)
    }

    /// Sets values under /proc/sys, as `("net/ipv4/ip_forward", "1")`.
    pub fn sysctl(&self, values: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in values {
                std::fs::write(format!("/proc/sys/{name}"), value)
                    .with_context(|| format!("cannot set {name} to {value} in {}", self.name))?;
            }
            Ok(())
        })?
    }

    /// Reads a file below /proc/net as this namespace sees it.
    pub fn proc_net(&self, file: &str) -> Result<String> {
        let path = format!("/proc/thread-self/net/{file}");
        self.run(|| std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}")))?
    }
}

/// Work that goes on inside a namespace.
#[derive(Debug)]
pub struct Running<T>(JoinHandle<Result<T>>);

impl<T> Running<T> {
    pub fn join(self) -> Result<T> {
        self.0
            .join()
            .map_err(|_| anyhow!("a thread inside a namespace panicked"))?
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Gives the command the mounts of another process (bpffs is one) and a host name of its own.
pub(crate) fn disguise(command: &mut Command, mounts: File, host: &str) {
    let host = host.to_owned();
    // Another mount namespace starts at its root directory.
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    // SAFETY: between fork and exec only system calls are made, on values that live in the command; a path shorter than
    // PATH_MAX is handed over without allocation.
    unsafe {
        command.pre_exec(move || {
            setns(&mounts, CloneFlags::CLONE_NEWNS)?;
            nix::unistd::chdir(&here)?;
            unshare(CloneFlags::CLONE_NEWUTS)?;
            Ok(nix::unistd::sethostname(&host)?)
        });
    }
}
