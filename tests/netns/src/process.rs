//! Processes of the cluster, by number, safe against numbers that were given out again.

mod threads;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{tool, wait};
use threads::Threads;

/// A process that was started here or by an earlier command of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot at which it began: tells it from a later owner of the number.
    began: u64,
}

impl Process {
    /// Starts a command, its output into a log file. Whenever it ends, it is reaped.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let pid = child.id() as i32;
        let began = began(pid).unwrap_or(0);
        thread::spawn(move || child.wait());
        Ok(Self { pid, began })
    }

    pub fn is_alive(&self) -> bool {
        self.began != 0 && began(self.pid) == Some(self.began)
    }

    /// Has it open no file from now on that would be one more than so many. What it has stays open.
    pub fn limit_files(&self, files: usize) -> Result<()> {
        let (pid, limit) = (self.pid.to_string(), format!("--nofile={files}:"));
        tool::run(Command::new("prlimit").args(["--pid", &pid, &limit]))?;
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.is_alive() {
            kill(Pid::from_raw(self.pid), signal)
                .with_context(|| format!("cannot signal process {}", self.pid))?;
        }
        Ok(())
    }

    /// Ends it at once and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_gone(Duration::from_secs(5))
    }

    /// Where it does not end in time the error says what each of its threads is doing.
    pub fn wait_gone(&self, deadline: Duration) -> Result<()> {
        let ended = wait::until(&format!("process {} ends", self.pid), deadline, || {
            !self.is_alive()
        });
        match ended {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error}; it has\n{}", Threads::of(self.pid)),
        }
    }
}

/// When a process began; none for one that is gone or a zombie.
fn began(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: count the fields after its last bracket (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // A leader that is a zombie may have threads that still hold files and sockets.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    if state == "X" || state == "Z" && threads() < 2 {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_is_not_alive() {
        let log = std::env::temp_dir().join(format!("portico-process-{}", std::process::id()));
        let process = Process::start(Command::new("sleep").arg("60"), &log).unwrap();
        assert!(process.is_alive());
        process.kill().unwrap();
        assert!(!process.is_alive());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_that_does_not_end_is_told_by_its_threads() {
        let log = std::env::temp_dir().join(format!("portico-lasting-{}", std::process::id()));
        let process = Process::start(Command::new("sleep").arg("60"), &log).unwrap();
        let error = process
            .wait_gone(Duration::from_millis(100))
            .unwrap_err()
            .to_string();
        process.kill().unwrap();
        std::fs::remove_file(log).unwrap();
        assert!(
            error.contains(&format!("thread {} \"sleep\": S", process.pid)),
            "{error}"
        );
    }
}
