//! What the processes of a proxy use: processor time and memory. And what the kernel keeps for them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// The processes that a proxy consists of.
#[derive(Clone, Debug)]
pub struct Processes(BTreeSet<u32>);

/// Of some processes together, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pages that they have in memory.
    pub resident: f64,
    /// The same, each page divided by those who share it: what would be free without them.
    pub own: f64,
}

impl Processes {
    /// These, and those that they have started.
    pub fn of(roots: &[u32]) -> Result<Self> {
        let mut found: BTreeSet<u32> = roots.iter().copied().collect();
        loop {
            let children: BTreeSet<u32> = everybody()?
                .filter(|pid| parent(*pid).is_some_and(|parent| found.contains(&parent)))
                .collect();
            let before = found.len();
            found.extend(children);
            if found.len() == before {
                return Ok(Self(found));
            }
        }
    }

    /// Processor time that they have used, in seconds: their own and the kernel's for them.
    pub fn used(&self) -> Result<f64> {
        let mut ticks = 0.0;
        for pid in &self.0 {
            // User and system are fields 14 and 15 of proc(5), so 11 and 12 after the name.
            let fields = fields(*pid).with_context(|| format!("process {pid} has ended"))?;
            ticks += fields
                .iter()
                .skip(11)
                .take(2)
                .filter_map(|word| word.parse::<f64>().ok())
                .sum::<f64>();
        }
        Ok(ticks / ticks_per_second())
    }

    /// Time that their threads have waited for a processor that somebody else had, in seconds.
    pub fn waited(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for pid in &self.0 {
            let threads = fs::read_dir(format!("/proc/{pid}/task"));
            for thread in threads.with_context(|| format!("process {pid} has ended"))? {
                // Threads come and go; what one that is gone has waited is not worth more than this.
                let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
                let waited = text.split_ascii_whitespace().nth(1);
                nanoseconds += waited.and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        Ok(nanoseconds / 1e9)
    }

    pub fn memory(&self) -> Result<Memory> {
        let mut sum = Memory::default();
        for pid in &self.0 {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .with_context(|| format!("process {pid} has ended"))?;
            sum.resident += kibibytes(&text, "Rss:")?;
            sum.own += kibibytes(&text, "Pss:")?;
        }
        Ok(sum)
    }
}

/// Bytes in objects that the whole kernel has in use, in KiB: sockets, files, what epoll keeps of them.
pub fn kernel_objects() -> Result<f64> {
    let text = fs::read_to_string("/proc/slabinfo").context("cannot read what the kernel has in use")?;
    Ok(objects(&text) / 1024.0)
}

/// Sums `active_objs × objsize` over slabinfo(5).
fn objects(text: &str) -> f64 {
    let caches = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo"));
    caches
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let active: f64 = words.next()?.parse().ok()?;
            let size: f64 = words.nth(1)?.parse().ok()?;
            Some(active * size)
        })
        .sum()
}

fn everybody() -> Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

fn parent(pid: u32) -> Option<u32> {
    fields(pid)?.get(1)?.parse().ok()
}

/// Of /proc/PID/stat, what follows the name, which is in brackets and may have spaces.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn kibibytes(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in:\n{text}"))
}

fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks.ok().flatten().unwrap_or(100) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let own = Processes::of(&[std::process::id()]).expect("this process");
        assert!(own.used().expect("its time") >= 0.0);
        assert!(own.waited().expect("what it waited") >= 0.0);
        let memory = own.memory().expect("its memory");
        assert!(memory.own > 100.0 && memory.resident >= memory.own, "{memory:?}");
    }

    #[test]
    fn objects_are_counted_by_size() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab>\n\
                    TCP 10 13 2240 14 8 : tunables 0 0 0 : slabdata 1 1 0\nfilp 3 16 256 16 1 : x\n";
        assert_eq!(objects(text), 10.0 * 2240.0 + 3.0 * 256.0);
    }
}
