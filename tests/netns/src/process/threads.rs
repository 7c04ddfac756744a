//! What a process that does not end is doing: its threads, as the kernel sees them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The threads of a process at this moment.
#[derive(Debug)]
pub struct Threads(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    number: u32,
    name: String,
    /// `S (sleeping)`, say.
    state: String,
    /// Ticks of a clock, a hundred a second as a rule, for which it has computed: here, and in the kernel.
    ticks: (u64, u64),
    /// Where in the kernel it sleeps.
    place: String,
    /// Number and arguments; `running` where it is in none.
    call: String,
    stack: Vec<String>,
}

impl Threads {
    /// Of this process; none where it is gone. What is kept from this reader is empty.
    pub fn of(pid: i32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        let mut threads: Vec<_> = tasks
            .flatten()
            .filter_map(|task| Thread::read(task.path()))
            .collect();
        threads.sort_unstable_by_key(|thread| thread.number);
        Self(threads)
    }
}

impl Thread {
    fn read(task: PathBuf) -> Option<Self> {
        let number = task.file_name()?.to_str()?.parse().ok()?;
        let status = fs::read_to_string(task.join("status")).ok()?;
        let of_status = |field: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        Some(Self {
            number,
            name: of_status("Name"),
            state: of_status("State"),
            ticks: ticks(&task).unwrap_or_default(),
            place: text(&task, "wchan"),
            call: text(&task, "syscall"),
            stack: text(&task, "stack").lines().map(str::to_owned).collect(),
        })
    }
}

fn text(task: &Path, file: &str) -> String {
    let text = fs::read_to_string(task.join(file)).unwrap_or_default();
    text.trim().to_owned()
}

/// In user space and in the kernel: fields 14 and 15 (proc(5)), counted after the name, which may hold spaces.
fn ticks(task: &Path) -> Option<(u64, u64)> {
    let stat = text(task, "stat");
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    Some((next()?, next()?))
}

impl fmt::Display for Threads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for thread in &self.0 {
            let Thread {
                number,
                name,
                state,
                ticks: (here, kernel),
                place,
                call,
                stack,
            } = thread;
            writeln!(
                out,
                "  thread {number} {name:?}: {state}, ticks {here}+{kernel}, wchan {place}, syscall {call}"
            )?;
            for frame in stack {
                writeln!(out, "    {frame}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_told_with_its_name_and_what_it_waits_in() {
        let (end, ended) = mpsc::channel::<()>();
        let waiting = thread::Builder::new()
            .name("waits (for it)".into())
            .spawn(move || ended.recv())
            .unwrap();
        // It gives itself its name.
        crate::wait::until("it sleeps", std::time::Duration::from_secs(5), || {
            let told = Threads::of(std::process::id() as i32).to_string();
            let mut lines = told.lines();
            lines.any(|line| {
                line.contains("\"waits (for it)\": S (sleeping)") && !line.ends_with("syscall running")
            })
        })
        .unwrap();
        drop(end);
        let _ = waiting.join();
        assert_eq!(Threads::of(-1).to_string(), "");
    }
}
