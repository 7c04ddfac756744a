//! A namespace with a task that listens, for what it costs to ask.

use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};

/// Holds the namespace and its listener.
pub struct Task {
    /// The id of the namespace, as the thread's knows it.
    pub namespace: i32,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Task {
    /// A task that listens at port 80 of all addresses of a namespace of its own.
    pub fn start() -> Result<Self> {
        let (end, ended) = channel::<()>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let _listener = TcpListener::bind("0.0.0.0:80")?;
            tell.send(nix::unistd::gettid())?;
            // Until the other side is dropped.
            let _ = ended.recv();
            Ok(())
        });
        let id = told.recv().context("cannot make a namespace with a listener")?;
        ip("link add task type veth peer name task-peer")?;
        ip(&format!("link set task-peer netns {id}"))?;
        // The kernel gives the namespace an id when a device's other end is in it.
        let line = ip("-o link show task")?;
        let mut words = line.split_whitespace().skip_while(|word| *word != "link-netnsid");
        let namespace = words.nth(1).context("the task's namespace has no id")?.parse()?;
        Ok(Self {
            namespace,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        bail!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
