//! An engine's life: started, asked to end, killed, started again.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::namespace::disguise;
use crate::process::Process;
use crate::{cgroup, names, services, supervisor, tool, wait};

/// An engine takes a second or two; three on two cores, with their agents, longer.
const START: Duration = Duration::from_secs(60);
/// It stops every container first, unless they shall live on.
const STOP: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts a node's engine and waits until it answers. It finds the containers of an earlier one.
    pub fn start_engine(&mut self, node: &str) -> Result<()> {
        self.launch_engine(node)?;
        self.wait_engine(node)
    }

    /// Starts all engines, side by side, and gives each the image of tasks.
    pub(crate) fn start_engines(&mut self) -> Result<()> {
        for node in self.nodes() {
            self.launch_engine(&node)?;
        }
        let cluster = &*self;
        let ready = |node: String| {
            cluster
                .wait_engine(&node)
                .and_then(|()| cluster.import_image(&node))
        };
        thread::scope(|scope| {
            let nodes = cluster.nodes().into_iter();
            let starting: Vec<_> = nodes.map(|node| scope.spawn(move || ready(node))).collect();
            starting.into_iter().try_for_each(|node| {
                node.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// Starts a node's engine and waits for nothing.
    pub fn launch_engine(&mut self, node: &str) -> Result<()> {
        let directory = self.engine_directory(node);
        fs::create_dir_all(&directory)?;
        let configuration = directory.join("daemon.json");
        let text = serde_json::to_string_pretty(&self.engine_configuration(node))?;
        services::replace(&configuration, &text)?;
        self.cover()?;
        let mut command = self.place(node).command("dockerd")?;
        command.arg("--config-file").arg(&configuration);
        self.count_among(&mut command, node)?;
        disguise(&mut command, supervisor::mounts(&self.state.prefix)?, node);
        let process = Process::start(&mut command, &self.engine_log(node))
            .context("no engine (packages docker.io and docker-compose)")?;
        self.node_mut(node)?.engine = Some(process);
        self.save()
    }

    /// Waits until a node's engine answers.
    pub fn wait_engine(&self, node: &str) -> Result<()> {
        let socket = self.engine_socket(node);
        wait::until_some(&format!("the engine of {node} answers"), START, || {
            if !self.engine_runs(node) {
                // Waiting longer helps nobody.
                return Ok(Some(Err(anyhow::anyhow!("the engine of {node} has ended"))));
            }
            ping(&socket).map(|()| Some(Ok(())))
        })
        .and_then(|(answer, _)| answer)
        .with_context(|| format!("its log ends with:\n{}", self.engine_log_end(node)))
    }

    pub fn engine_runs(&self, node: &str) -> bool {
        let engine = self.state.nodes.get(node).and_then(|node| node.engine);
        engine.is_some_and(|engine| engine.is_alive())
    }

    /// Asks a node's engine to end, and waits. Its containers end with it, unless `live-restore` is set.
    pub fn stop_engine(&mut self, node: &str) -> Result<()> {
        if let Some(engine) = self.node_mut(node)?.engine.take() {
            engine.signal(Signal::SIGTERM)?;
            engine.wait_gone(STOP)?;
        }
        self.save()
    }

    /// Ends a node's engine without a chance to say goodbye. Its containers run on.
    pub fn kill_engine(&mut self, node: &str) -> Result<()> {
        if let Some(engine) = self.node_mut(node)?.engine.take() {
            engine.kill()?;
        }
        // Their numbers stay behind. Where nobody reaps orphans, the next engine would wait for its predecessor's containerd,
        // which died with that.
        for file in ["engine.pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.engine_directory(node).join(file));
        }
        self.save()
    }

    /// Sets a key of `daemon.json` for engines that are started from now on, as `("live-restore", true)`; `null` takes it
    /// back.
    pub fn configure_engines(&mut self, key: &str, value: impl Into<Value>) {
        match value.into() {
            Value::Null => self.state.engine.remove(key),
            value => self.state.engine.insert(key.to_owned(), value),
        };
    }

    pub(crate) fn engine_log_end(&self, node: &str) -> String {
        let text = fs::read_to_string(self.engine_log(node)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    fn engine_configuration(&self, node: &str) -> Value {
        let directory = self.engine_directory(node);
        let mut configuration = json!({
            "data-root": directory.join("data"),
            "exec-root": directory.join("exec"),
            "pidfile": directory.join("engine.pid"),
            // Else it writes one to /etc/docker.
            "deprecated-key-path": directory.join("key.json"),
            "hosts": [format!("unix://{}", self.engine_socket(node).display())],
            "group": "root",
            // Below it lie the containers' cgroups, in every hierarchy.
            "cgroup-parent": cgroup::name(&self.state.prefix, node),
            "dns": [names::LOCAL],
            "log-level": "warn",
            "shutdown-timeout": 15,
        });
        for (key, value) in &self.state.engine {
            configuration[key] = value.clone();
        }
        configuration
    }

    /// Engines have two directories whose place nothing can change: sockets of the processes that hold containers, and those
    /// of plugins. The cluster has its own there, among its mounts.
    fn cover(&self) -> Result<()> {
        for directory in FIXED {
            let mut command = Command::new("sh");
            let script = "mkdir -p $0 && { grep -q \" $0 tmpfs\" /proc/self/mounts || mount -t tmpfs portico-lab $0; }";
            command.args(["-c", script, directory]);
            disguise(&mut command, supervisor::mounts(&self.state.prefix)?, "lab");
            tool::run(&mut command)?;
        }
        self.seclude()
    }

    /// A swarm asks a registry for every image that a task needs, whether it is there or not, and goes on with the one that
    /// is there once that has failed. The machine's name servers are out of reach, which takes 20 s to find out; that nobody
    /// answers at the node itself is found out at once. Containers have another name server (`dns` above).
    fn seclude(&self) -> Result<()> {
        let nowhere = self.state.directory().join("engine.resolv.conf");
        // Once: over one that was replaced since, nothing else can be mounted.
        if !nowhere.exists() {
            services::replace(&nowhere, "nameserver 127.0.0.1\n")?;
        }
        let mut command = Command::new("sh");
        // Where there is no such file nobody is asked.
        let script = "cmp -s $0 $1 || ! [ -e $1 ] || mount --bind $0 $1";
        command.args(["-c", script]).arg(&nowhere).arg(names::MACHINES);
        disguise(&mut command, supervisor::mounts(&self.state.prefix)?, "lab");
        tool::run(&mut command).map(drop)
    }
}

const FIXED: [&str; 2] = ["/run/containerd", "/run/docker"];

/// Takes the two directories away where they are empty: the cluster's own content was a mount that nobody else sees.
pub(crate) fn uncover() {
    for directory in FIXED {
        let _ = fs::remove_dir(directory);
    }
}

fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        bail!("it says {answer:?}");
    }
    Ok(())
}
