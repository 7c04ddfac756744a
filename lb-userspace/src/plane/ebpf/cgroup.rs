//! The programs at sockets, attached to a cgroup: pinned, adopted, and replaced in one step as those on devices are.
//!
//! Where they are refused, nothing is lost but their shortcut: packets are balanced one by one, and nobody answers at
//! `localhost`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::link;
use super::loader::Programs;
use super::maps::with_causes;
use crate::plane::{Difference, Problem, SocketReport};
use crate::{config, outside};

/// What the programs, and the places in the kernel where they belong, are called.
pub const HOOKS: [&str; 9] = [
    "connect4",
    "connect6",
    "getpeername4",
    "getpeername6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "sock_release",
];

/// The attachments of this agent.
pub struct Cgroup {
    config: config::Cgroup,
    /// Where links are pinned.
    links: PathBuf,
    /// The cgroup they are attached to, by the number of its directory, which the kernel gives no other.
    attached: Option<(PathBuf, u64)>,
    /// The one that was last tried.
    asked: Option<(PathBuf, u64)>,
    /// The one where an older set serves on.
    older: Option<u64>,
    /// Why the sockets of the node itself cannot be told from others.
    blind: Option<String>,
    problem: Option<Problem>,
}

impl Cgroup {
    pub fn new(config: config::Cgroup, links: PathBuf) -> Self {
        Self {
            config,
            links,
            attached: None,
            asked: None,
            older: None,
            blind: None,
            problem: None,
        }
    }

    /// Attaches nothing new: to programs that take the node's own sockets for others' it would lead even the name server's.
    pub fn blind(&mut self, reason: String) {
        self.blind = Some(reason);
    }

    /// Puts the programs loaded just now where they belong, in the place of those that an agent before this one left.
    pub fn attach(&mut self, programs: &mut Programs) {
        let found = self.find();
        self.asked = found.as_ref().ok().cloned();
        let attached = found.and_then(|(path, number)| {
            // None is attached where the kernel has refused one of them.
            for name in HOOKS {
                let program = programs.socket(name).map(drop);
                program.map_err(|reason| refused(&path, name, &reason))?;
            }
            for name in HOOKS {
                self.attach_one(programs, name, &path, number)
                    .map_err(|reason| refused(&path, name, &reason))?;
            }
            Ok((path, number))
        });
        self.older = None;
        match attached {
            Ok((path, number)) => {
                // What is attached somewhere else was needed until here.
                self.detach(Some(number));
                let told = self.attached.replace((path.clone(), number)).is_some();
                if !told {
                    tracing::info!(cgroup = %path.display(), "programs are attached at sockets");
                }
                self.problem = None;
            }
            Err(None) => {
                self.detach(None);
                (self.attached, self.problem) = (None, None);
            }
            Err(Some(problem)) => {
                // An older set serves on; half a new one is taken off: a name shown by one hook and not by another helps
                // nobody.
                self.older = self.complete();
                self.detach(self.older);
                if let Some(number) = self.older.filter(|_| self.blind.is_none()) {
                    self.renew(programs, number);
                }
                self.attached = None;
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}");
                }
                self.problem = Some(problem);
            }
        }
    }

    /// Attaches them again where the cgroup was replaced by another, or is there at last. One that refused them is not
    /// asked again: some of them would be attached for a moment each time.
    pub fn follow(&mut self, programs: &mut Programs) {
        let found = self.find().ok();
        if found != self.asked {
            self.attach(programs);
        }
    }

    /// Attachments whose pins were taken away, and with them the programs.
    pub fn missing(&mut self, programs: &mut Programs) -> Vec<Difference> {
        let Some((path, number)) = self.attached.clone() else {
            return Vec::new();
        };
        let pinned = self.pinned().remove(&number).unwrap_or_default();
        let gone = HOOKS.into_iter().filter(|name| !pinned.contains(*name));
        gone.map(|name| Difference {
            entry: format!("program at {}", path.display()),
            wanted: name.into(),
            found: "detached".into(),
            repaired: self.attach_one(programs, name, &path, number).is_ok(),
        })
        .collect()
    }

    pub fn problem(&self) -> Option<Problem> {
        self.problem.clone()
    }

    pub fn report(&self) -> SocketReport {
        SocketReport {
            cgroup: match (&self.attached, self.older) {
                (Some((path, _)), _) => Some(path.display().to_string()),
                (None, Some(number)) => Some(format!("the cgroup with number {number}, as before")),
                (None, None) => None,
            },
            wanted: self.config.attach,
            ..SocketReport::default()
        }
    }

    /// The cgroup; without a problem where none is wanted.
    fn find(&self) -> Result<(PathBuf, u64), Option<Problem>> {
        if !self.config.attach {
            return Err(None);
        }
        if let Some(reason) = &self.blind {
            return Err(Some(Problem {
                error: format!("cannot read the cookie of the node's network namespace: {reason}"),
                traffic: TRAFFIC.into(),
                fix: "let the agent make sockets and ask them for SO_NETNS_COOKIE (file descriptors, seccomp), and restart it"
                    .into(),
            }));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let path = match &self.config.path {
            Some(path) => path.clone(),
            None => outside::cgroup2(&mounts).ok_or_else(|| {
                Some(Problem {
                    error: "no cgroup2 file system is mounted, and programs at sockets belong to one".into(),
                    traffic: TRAFFIC.into(),
                    fix: "mount -t cgroup2 none /sys/fs/cgroup/unified and name it in [cgroup] path, or set cgroup.attach = false to silence this".into(),
                })
            })?,
        };
        if self.config.path.is_none() && outside::is_containers_own(&path) {
            return Err(Some(Problem {
                error: format!(
                    "{} is the cgroup of this container alone, and programs at sockets belong to the machine's",
                    path.display()
                ),
                traffic: TRAFFIC.into(),
                fix: "mount the machine's /sys/fs/cgroup at /host/sys/fs/cgroup in the container, or set cgroup.attach = false to silence this".into(),
            }));
        }
        let number = number(&path).map_err(|reason| {
            Some(Problem {
                error: format!("cannot use the cgroup {}: {reason}", path.display()),
                traffic: TRAFFIC.into(),
                fix: "set [cgroup] path to a directory on a cgroup2 file system (see /proc/mounts)".into(),
            })
        })?;
        Ok((path, number))
    }

    fn attach_one(
        &self,
        programs: &mut Programs,
        name: &'static str,
        path: &Path,
        number: u64,
    ) -> Result<(), String> {
        let program = programs.socket(name)?;
        let pin = self.links.join(pin(name, number));
        if let Ok(link) = link::open(&pin)
            && let Ok(fd) = program.fd()
            && link::update(&link, fd.as_fd()).is_ok()
        {
            return Ok(());
        }
        // A link that cannot be replaced belongs to a cgroup that is gone.
        let _ = fs::remove_file(&pin);
        attach(program, path, &pin)
    }

    /// Takes off what is attached to any cgroup but this one.
    fn detach(&self, kept: Option<u64>) {
        for entry in fs::read_dir(&self.links).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(parse).map(|(_, number)| number);
            if number.is_some() && number != kept {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Hooks that are attached, by cgroup.
    fn pinned(&self) -> BTreeMap<u64, BTreeSet<String>> {
        let mut pinned: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for entry in fs::read_dir(&self.links).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some((hook, number)) = name.to_str().and_then(parse) {
                pinned.entry(number).or_default().insert(hook.to_owned());
            }
        }
        pinned
    }

    /// A cgroup at which all hooks are attached.
    fn complete(&self) -> Option<u64> {
        let is_whole = |hooks: &BTreeSet<String>| HOOKS.iter().all(|name| hooks.contains(*name));
        let mut pinned = self.pinned().into_iter();
        pinned
            .find(|(_, hooks)| is_whole(hooks))
            .map(|(number, _)| number)
    }

    /// Puts the programs in the place of those at a cgroup whose path is not known any more.
    fn renew(&self, programs: &mut Programs, number: u64) {
        for name in HOOKS {
            let link = link::open(&self.links.join(pin(name, number)));
            if let Ok(link) = link
                && let Ok(program) = programs.socket(name)
                && let Ok(fd) = program.fd()
            {
                // One that cannot be replaced serves on as it is.
                let _ = link::update(&link, fd.as_fd());
            }
        }
    }
}

const TRAFFIC: &str =
    "services are served per packet; localhost and sockets of dead tasks are not looked after";

fn refused(path: &Path, name: &str, reason: &str) -> Option<Problem> {
    Some(Problem {
        error: format!("cannot attach {name} to the cgroup {}: {reason}", path.display()),
        traffic: TRAFFIC.into(),
        fix: format!(
            "see what else is attached there: bpftool cgroup tree {}; or set cgroup.attach = false to silence this",
            path.display()
        ),
    })
}

fn attach(program: &mut Program, path: &Path, pin: &Path) -> Result<(), String> {
    let cgroup = File::open(path).map_err(|error| error.to_string())?;
    // Links share a cgroup with whoever else is attached there; the modes are for attachments without one.
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode).map_err(named)?;
            FdLink::try_from(program.take_link(id).map_err(named)?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, mode).map_err(named)?;
            FdLink::try_from(program.take_link(id).map_err(named)?)
        }
        _ => return Err("it is no program for sockets".into()),
    };
    // The pin holds it from here on.
    link.map_err(|error| with_causes(&error))?
        .pin(pin)
        .map(drop)
        .map_err(|error| with_causes(&error))
}

fn named(error: ProgramError) -> String {
    with_causes(&error)
}

fn number(path: &Path) -> Result<u64, String> {
    let info = statfs(path).map_err(|error| error.desc().to_owned())?;
    if info.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err("it is not on a cgroup2 file system".into());
    }
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    Ok(metadata.ino())
}

fn pin(name: &str, number: u64) -> String {
    format!("cgroup-{name}-{number}")
}

fn parse(pin: &str) -> Option<(&str, u64)> {
    let (name, number) = pin.strip_prefix("cgroup-")?.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_is_found_again_by_its_pin() {
        assert_eq!(parse(&pin("connect4", 71)), Some(("connect4", 71)));
        assert_eq!(parse("task-3"), None);
    }

    #[test]
    fn a_path_that_is_no_cgroup_is_a_problem_and_none_wanted_is_not() {
        let config = config::Cgroup {
            path: Some("/proc".into()),
            ..config::Cgroup::default()
        };
        let cgroup = Cgroup::new(config, PathBuf::new());
        let problem = cgroup.find().unwrap_err().unwrap();
        assert!(problem.error.contains("not on a cgroup2"), "{problem}");
        let none = config::Cgroup {
            attach: false,
            ..config::Cgroup::default()
        };
        assert_eq!(Cgroup::new(none, PathBuf::new()).find(), Err(None));
        let mut blind = Cgroup::new(config::Cgroup::default(), PathBuf::new());
        blind.blind("too many open files".into());
        let problem = blind.find().unwrap_err().unwrap();
        assert!(
            problem.error.ends_with("namespace: too many open files"),
            "{problem}"
        );
    }

    #[test]
    fn only_a_whole_set_at_one_cgroup_counts_as_attached() {
        let links = tempfile::tempdir().unwrap();
        let put = |name: &str, number| fs::write(links.path().join(pin(name, number)), "").unwrap();
        let cgroup = Cgroup::new(config::Cgroup::default(), links.path().into());
        HOOKS[1..].iter().for_each(|name| put(name, 71));
        HOOKS[..2].iter().for_each(|name| put(name, 72));
        assert_eq!(cgroup.complete(), None);
        put(HOOKS[0], 71);
        assert_eq!(cgroup.complete(), Some(71));
        cgroup.detach(Some(71));
        assert_eq!(cgroup.pinned().into_keys().collect::<Vec<_>>(), [71]);
    }
}
