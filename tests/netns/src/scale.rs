//! Tasks: started, drained, stopped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::state::Task;
use crate::{tool, topology, wait};

/// How long connections may go on at a task that is draining before the task is told to end.
pub const DRAIN: Duration = Duration::from_secs(3);
/// How long a task that was told to end may take for the connections it has.
const GRACE: Duration = Duration::from_secs(12);

impl Cluster {
    /// Starts the next task of a service, on the emptiest node unless one is named, and waits until it listens.
    /// [`publish`](Self::publish) makes it known.
    pub fn add_task(&mut self, service: &str, node: Option<&str>) -> Result<String> {
        self.add_task_with(service, node, &[])
    }

    /// The same with options for the task program.
    pub fn add_task_with(&mut self, service: &str, node: Option<&str>, options: &[&str]) -> Result<String> {
        ensure!(self.state.services.contains_key(service), "no service {service}");
        let node = match node {
            Some(node) => node.to_owned(),
            None => self.state.emptiest_node().context("no node takes tasks")?,
        };
        self.node_mut(&node)?;
        let number = (1..)
            .find(|number| !self.state.tasks.contains_key(&format!("{service}.{number}")))
            .unwrap_or(1);
        let name = format!("{service}.{number}");
        let instance = self.state.instances.entry(name.clone()).or_default();
        *instance += 1;
        let identity = if *instance == 1 {
            name.clone()
        } else {
            format!("{name}-{instance}")
        };
        let on_host = self.state.services[service].on_host.is_some();
        let address = if on_host {
            self.state.nodes[&node].address(0)
        } else {
            let free = self.state.free_address(&node);
            free.context("the bridge has no free address")?
        };
        let task = Task {
            service: service.to_owned(),
            number,
            identity,
            node,
            address,
            draining: false,
            weight: None,
            process: None,
        };
        self.state.tasks.insert(name.clone(), task);
        if !on_host {
            topology::add_task(&self.state, &name)?;
        }
        self.start_task(&name, options)?;
        Ok(name)
    }

    /// Starts the program of a task that is there, and waits until it listens.
    pub fn start_task(&mut self, name: &str, options: &[&str]) -> Result<()> {
        let health = self.health_file(name);
        let task = self.task(name)?;
        let mut command = self.command(name, tool::program("portico-task")?)?;
        command
            .args(["--service", &task.service, "--task", name, "--node", &task.node])
            .arg("--health-file")
            .arg(health)
            .args(options);
        if let Some(port) = self.state.host_port(name) {
            let (port, echo) = (port.to_string(), (port + 1).to_string());
            command.args(["--port", &port, "--echo-port", &echo]);
        }
        let process = Process::start(&mut command, &self.task_log(name))?;
        self.state
            .tasks
            .entry(name.to_owned())
            .and_modify(|task| task.process = Some(process));
        wait::until(&format!("{name} listens"), Duration::from_secs(10), || {
            self.listens(name)
        })?;
        self.save()
    }

    pub fn task(&self, name: &str) -> Result<&Task> {
        self.state.tasks.get(name).with_context(|| {
            let known: Vec<_> = self.state.tasks.keys().map(String::as_str).collect();
            format!("no task {name}; there are {}", known.join(", "))
        })
    }

    /// Tells every agent that a task takes no more connections.
    pub fn drain_task(&mut self, name: &str) -> Result<()> {
        self.task(name)?;
        self.state
            .tasks
            .entry(name.to_owned())
            .and_modify(|task| task.draining = true);
        self.publish()
    }

    /// Signals a task's program; it stays in the services file.
    pub fn signal_task(&self, name: &str, signal: Signal) -> Result<()> {
        self.task(name)?
            .process
            .map_or(Ok(()), |process| process.signal(signal))
    }

    /// The task dies without a word, and the source notices.
    pub fn stop_task(&mut self, name: &str) -> Result<()> {
        self.stop_task_unseen(name)?;
        self.publish()
    }

    /// The task dies without a word, its machine with it; nobody is told.
    pub fn stop_task_unseen(&mut self, name: &str) -> Result<()> {
        self.signal_task(name, Signal::SIGKILL)?;
        self.forget_task(name)
    }

    /// The task's device goes, as if its machine lost power: not even a FIN gets out.
    pub fn unplug_task(&self, name: &str) -> Result<()> {
        let node = self.place(&self.task(name)?.node);
        tool::ip(
            Some(node.name()),
            &[format!("link set {} down", topology::task_device(name))],
        )
    }

    /// Connections that the task's program says it lost by closing its listeners; none before it is done.
    pub fn lost_by_closing(&self, name: &str) -> Result<u64> {
        let log = std::fs::read_to_string(self.task_log(name))?;
        let account = log
            .lines()
            .rev()
            .find_map(|line| line.rsplit_once("is done, lost="));
        let (_, lost) = account.with_context(|| format!("{name} gave no account: {log}"))?;
        Ok(lost.parse()?)
    }

    /// Resets that a task's kernel has sent: connections that it does not know, or that waited in its accept queue when
    /// the listener closed.
    pub fn resets_sent(&self, name: &str) -> Result<u64> {
        self.kernel_counted(name, "Tcp: ", "OutRsts")
    }

    /// Datagrams that a task's program has been given.
    pub fn datagrams_received(&self, name: &str) -> Result<u64> {
        let six = self.place(name).proc_net("snmp6")?;
        let six = six.lines().find_map(|line| line.strip_prefix("Udp6InDatagrams"));
        let six: u64 = six.context("no counter of datagrams")?.trim().parse()?;
        Ok(six + self.kernel_counted(name, "Udp: ", "InDatagrams")?)
    }

    /// A counter of a task's kernel. Its table has two lines that begin alike (proc(5)): names, and values.
    fn kernel_counted(&self, name: &str, group: &str, counter: &str) -> Result<u64> {
        let table = self.place(name).proc_net("snmp")?;
        let mut lines = table.lines().filter_map(|line| line.strip_prefix(group));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let column = names
            .split(' ')
            .position(|name| name == counter)
            .with_context(|| format!("no counter {counter}"))?;
        Ok(values.split(' ').nth(column).context("no value")?.parse()?)
    }

    /// Removes a task's machine and its place in the state. [`publish`](Self::publish) tells the agents.
    pub fn forget_task(&mut self, name: &str) -> Result<()> {
        if let Some(process) = self.task(name)?.process {
            process.kill()?;
        }
        if self.state.host_port(name).is_none() {
            topology::remove_task(&self.state, name)?;
        }
        self.state.tasks.remove(name);
        self.save()
    }

    /// Brings a service to a number of tasks. More: started, then published. Fewer: the highest numbers first; they
    /// are marked as draining, keep their connections until these end or [`DRAIN`] is over, and only then go.
    pub fn scale(&mut self, service: &str, count: u32) -> Result<()> {
        let there = self.state.tasks_of(service);
        for _ in there.len()..count as usize {
            self.add_task(service, None)?;
        }
        let mut leaving: Vec<String> = there
            .into_iter()
            .skip(count as usize)
            .map(|(name, _)| name)
            .collect();
        for name in &leaving {
            self.state
                .tasks
                .entry(name.clone())
                .and_modify(|task| task.draining = true);
        }
        self.publish()?;
        self.settle()?;
        if leaving.is_empty() {
            return Ok(());
        }
        // Past the deadline the task is told to go; its program ends each connection with an answer's last byte.
        let idle = || {
            leaving
                .iter()
                .all(|name| self.connections(name).is_ok_and(|count| count == 0))
        };
        let _ = wait::until("connections end", DRAIN, idle);
        for name in leaving.iter().rev() {
            self.signal_task(name, Signal::SIGTERM)?;
        }
        let end = Instant::now() + GRACE;
        while !leaving.is_empty() {
            let runs = |name: &String| self.task(name).is_ok_and(|task| task.is_running());
            let late = Instant::now() > end;
            let (staying, gone): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|name| runs(name) && !late);
            leaving = staying;
            for name in &gone {
                self.forget_task(name)?;
            }
            if gone.is_empty() {
                std::thread::sleep(Duration::from_millis(10));
            } else {
                self.publish()?;
            }
        }
        self.settle()
    }

    /// Connections that a task has established.
    pub fn connections(&self, name: &str) -> Result<usize> {
        let established = |file| Ok::<_, anyhow::Error>(sockets(&self.place(name).proc_net(file)?, "01"));
        Ok(established("tcp")? + established("tcp6")?)
    }

    pub fn health_file(&self, name: &str) -> PathBuf {
        self.state.directory().join(format!("{name}.sick"))
    }

    pub fn task_log(&self, name: &str) -> PathBuf {
        self.state.directory().join(format!("{name}.log"))
    }

    fn listens(&self, name: &str) -> bool {
        let port = self.state.host_port(name);
        self.place(name)
            .proc_net("tcp6")
            .is_ok_and(|table| sockets_at(&table, "0A", port) > 0)
    }
}

/// Sockets of /proc/net/tcp in a state: the fourth column, hexadecimal (01 established, 0A listening).
fn sockets(table: &str, state: &str) -> usize {
    sockets_at(table, state, None)
}

/// Those at a port of this machine, or at any.
fn sockets_at(table: &str, state: &str, port: Option<u16>) -> usize {
    let port = port.map(|port| format!(":{port:04X}"));
    let is_wanted = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        fields.nth(1) == Some(state) && port.as_ref().is_none_or(|port| local.ends_with(port))
    };
    table.lines().skip(1).filter(is_wanted).count()
}
