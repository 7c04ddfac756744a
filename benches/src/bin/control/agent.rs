//! The memory of the real agent that serves many services.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::input::{BACKENDS, HERE, SERVICES, services_file};
use engine::Engine;
use netns::tool;
use serde_json::Value;

use crate::PINS;
use crate::containers::containers;

/// Mebibytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All that the kernel counts as the agent's.
    pub resident: f64,
    /// The part of it that is kernel tables mapped into the agent.
    pub mapped: f64,
    /// All tables in the kernel, mapped or not.
    pub tables: f64,
    /// Highest resident size so far.
    pub peak: f64,
}

/// Weighs an agent that reads the services file.
pub fn of_file(slots: u32, limits: &str) -> Result<Memory> {
    let directory = empty()?;
    let path = format!("{directory}/services.yaml");
    fs::write(&path, services_file(slots))?;
    weigh(
        &directory,
        &format!("[sources.file]\npath = \"{path}\""),
        limits,
        SERVICES * BACKENDS,
    )
}

/// Weighs an agent that follows an engine with so many containers.
pub fn of_engine(count: u32) -> Result<Memory> {
    let directory = empty()?;
    let socket = format!("{directory}/docker.sock");
    let engine = Engine::start(Path::new(&socket))?;
    engine.put(containers(count));
    let lines = format!("address = \"192.0.2.1\"\n[sources.docker]\nsocket = \"{socket}\"");
    weigh(&directory, &lines, "", count)
}

fn empty() -> Result<String> {
    let directory = format!("{PINS}-run/agent");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Starts the agent, waits until it has applied so many backends, and weighs it.
fn weigh(directory: &str, lines: &str, limits: &str, backends: u32) -> Result<Memory> {
    let config = format!(
        "node = \"{HERE}\"\n{lines}\n\
         [cgroup]\nattach = false\n[paths]\npins = \"{PINS}/agent\"\nruntime = \"{directory}\"\n{limits}"
    );
    fs::write(format!("{directory}/portico.toml"), config)?;
    let mut agent = Command::new(tool::program("portico")?)
        .args(["run", "--config", &format!("{directory}/portico.toml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(format!("{directory}/log"))?)
        .spawn()
        .context("cannot start the agent")?;
    let weighed = settle(&mut agent, directory, backends).and_then(|()| read(agent.id()));
    let _ = agent.kill();
    let _ = agent.wait();
    let _ = fs::remove_dir_all(format!("{PINS}/agent"));
    weighed.with_context(|| fs::read_to_string(format!("{directory}/log")).unwrap_or_default())
}

/// Until the snapshot is applied, and a while longer: health checks and the first looks at the machine are to be in it.
fn settle(agent: &mut Child, directory: &str, backends: u32) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        if let Some(status) = agent.try_wait()? {
            bail!("the agent has ended: {status}");
        }
        let status = Command::new(tool::program("portico")?)
            .args([
                "--socket",
                &format!("{directory}/portico.sock"),
                "status",
                "-o",
                "json",
            ])
            .output()?;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let all = status["services"]["backends"].as_u64() == Some(backends.into());
        if all && status["planes"][0]["report"]["generation"] == status["generation"] {
            std::thread::sleep(Duration::from_secs(5));
            return Ok(());
        }
        if Instant::now() > patience {
            bail!("the agent has not applied the services within two minutes: {status}");
        }
    }
}

fn read(process: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let maps = fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut mapped = 0.0;
    let mut is_table = false;
    for line in maps.lines() {
        // A mapping begins with its addresses.
        if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            is_table = line.contains("bpf-map");
        } else if is_table && line.starts_with("Rss:") {
            mapped += kibibytes(line);
        }
    }
    let of = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .map_or(0.0, kibibytes)
    };
    Ok(Memory {
        resident: of("VmRSS:") / 1024.0,
        mapped: mapped / 1024.0,
        tables: tables(process)? / 1024.0 / 1024.0,
        peak: of("VmHWM:") / 1024.0,
    })
}

fn kibibytes(line: &str) -> f64 {
    let number = line.split_ascii_whitespace().nth(1);
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// Bytes of the maps that the process has open, each once.
fn tables(process: u32) -> Result<f64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let of = |name: &str| -> Option<u64> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        if let (Some(id), Some(bytes)) = (of("map_id:"), of("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum::<u64>() as f64)
}
