//! One turn of one contender: a load for some seconds, or idle connections on the scales.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns::tool;
use nix::sys::resource::{Resource, getrlimit};

use crate::Sizes;
use crate::contender::{Contender, Processors};
use crate::load::Load;
use crate::network::{Network, own, pinned};
use crate::process::{Memory, Processes, kernel_objects};
use crate::running::Running;
use crate::traffic::Outcome;
use crate::traffic::idle::READY;

/// Connections that a proxy has had before it is weighed: what it makes once is not one connection's.
const WARM: usize = 64;
/// Until the kernel has put away what nobody uses any more.
const CALM: Duration = Duration::from_millis(700);

/// What a load came to.
pub struct Turn {
    pub outcome: Outcome,
    /// Processor time that the proxy had for it, and for which it waited in vain, in seconds; none without a proxy.
    pub time: Option<[f64; 2]>,
}

/// What an idle connection weighs, in KiB.
pub struct Weight {
    /// None without a proxy.
    pub memory: Option<Memory>,
    pub kernel: f64,
}

pub fn load(
    network: &Network,
    contender: Contender,
    running: &Running,
    load: Load,
    sizes: &Sizes,
) -> Result<Turn> {
    let _awake = match load {
        Load::Latency => Some(Awake::keep(network, sizes.seconds)?),
        _ => None,
    };
    let time = || -> Result<_> {
        let of = |processes: &Processes| Ok([processes.used()?, processes.waited()?]);
        running.processes.as_ref().map(of).transpose()
    };
    let before = time()?;
    let text = tool::run(&mut client(network, contender, load, sizes)?)?;
    let after = time()?;
    let outcome =
        serde_json::from_str(&text).with_context(|| format!("the client said no figure: {text}"))?;
    let time = before
        .zip(after)
        .map(|([used, waited], after)| [after[0] - used, (after[1] - waited).max(0.0)]);
    // Streams that were broken off have stopped by then everywhere.
    sleep(Duration::from_millis(50));
    Ok(Turn { outcome, time })
}

/// Weighs a proxy that was just started, with as many connections as it can have.
pub fn weigh(network: &Network, contender: Contender, running: &Running, sizes: &Sizes) -> Result<Weight> {
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let sizes = Sizes {
        idle: contender.room(sizes.idle, usize::try_from(descriptors)?),
        ..sizes.clone()
    };
    let each = sizes.idle as f64;
    let warm = Sizes {
        idle: WARM,
        ..sizes.clone()
    };
    Held::hold(network, contender, &warm)?.release()?;
    sleep(CALM);
    let look = || -> Result<_> {
        let memory = running.processes.as_ref().map(Processes::memory).transpose()?;
        Ok((memory, kernel_objects()?))
    };
    let (memory, kernel) = look()?;
    let held = Held::hold(network, contender, &sizes)?;
    sleep(CALM);
    let (more, more_kernel) = look()?;
    held.release()?;
    Ok(Weight {
        memory: memory.zip(more).map(|(before, after)| Memory {
            resident: (after.resident - before.resident) / each,
            own: (after.own - before.own) / each,
        }),
        kernel: (more_kernel - kernel) / each,
    })
}

fn client(network: &Network, contender: Contender, load: Load, sizes: &Sizes) -> Result<Command> {
    let processor = network.processors.client.to_string();
    let mut command = pinned(&network.client(contender), &processor)?;
    command
        .arg(own()?)
        .args(load.arguments(network.target(contender), sizes));
    Ok(command)
}

/// Idle connections.
struct Held(Child);

impl Held {
    /// Opens them.
    fn hold(network: &Network, contender: Contender, sizes: &Sizes) -> Result<Self> {
        let mut command = client(network, contender, Load::Idle, sizes)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut held = Self(command.spawn().context("cannot start the client")?);
        let output = held.0.stdout.take().context("the client has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line.trim() == READY,
            "{} idle connections could not be opened",
            sizes.idle
        );
        Ok(held)
    }

    /// Closes them.
    fn release(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "the client failed: {status}");
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something that runs on every processor when nobody else wants to.
struct Awake(Vec<Child>);

impl Awake {
    fn keep(network: &Network, seconds: u64) -> Result<Self> {
        let mut awake = Self(Vec::new());
        let Processors {
            proxy,
            client,
            backend,
        } = &network.processors;
        let all: std::collections::BTreeSet<usize> = proxy.clone().chain([*client, *backend]).collect();
        // In a namespace of the cluster: whatever becomes of this process, the cluster's supervisor ends them.
        let place = network.client(Contender::Direct);
        for processor in all {
            let mut command = pinned(&place, &processor.to_string())?;
            command
                .args(["chrt", "--idle", "0"])
                .arg(own()?)
                .args(["awake", &format!("--seconds={}", seconds + 10)])
                .stdin(Stdio::null());
            awake
                .0
                .push(command.spawn().context("cannot run chrt (package util-linux)")?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
