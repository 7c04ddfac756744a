//! What every test in namespaces needs: the right to make them, a turn of its own, and a cluster that serves.

use std::fs::File;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::builder::Builder;
use crate::cluster::Cluster;
use crate::state::Service;

/// The ports of the service `web`, which most tests ask.
pub const WEB: [&str; 2] = ["8080:80", "8080:80/udp"];

/// What tests with Docker's engine start.
pub const DOCKER: &[&str] = &["dockerd", "docker", "docker-compose"];

/// Two cores serve one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A turn, for as long as it lives: no other test of this machine has one.
#[derive(Debug)]
pub struct Turn {
    test: String,
    began: Instant,
    _file: Option<Flock<File>>,
    _guard: MutexGuard<'static, ()>,
}

/// A turn, held for as long as the test runs. Without root there is none: the test says SKIPPED, and fails in CI.
pub fn turn(test: &str) -> Option<Turn> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI has it");
        say(&format!(
            "{test} SKIPPED: it makes network namespaces and needs root"
        ));
        return None;
    }
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = machine(test);
    Some(Turn {
        test: test.to_owned(),
        began: Instant::now(),
        _file: file,
        _guard: guard,
    })
}

impl Drop for Turn {
    /// The harness gives no times, and these tests wait for each other: who is slow must be seen.
    fn drop(&mut self) {
        say(&format!(
            "{} took {:.1} s",
            self.test,
            self.began.elapsed().as_secs_f64()
        ));
    }
}

/// Whether there are engines to start. Without any the test says SKIPPED, and fails in CI.
pub fn engines(test: &str, programs: &[&str]) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&paths).any(|path| path.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !there(name)).collect();
    if !missing.is_empty() {
        assert!(
            std::env::var("CI").is_err(),
            "{test} needs {missing:?}, and CI has them"
        );
        say(&format!(
            "{test} SKIPPED: {missing:?} are missing (cargo xtask test docker installs them)"
        ));
    }
    missing.is_empty()
}

/// Another run of the same tests, from another directory say, would take this one's cluster for its own.
fn machine(test: &str) -> Option<Flock<File>> {
    let file = File::create(std::env::temp_dir().join("portico-netns-tests.lock")).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Err((file, Errno::EWOULDBLOCK)) => {
            say(&format!("{test} waits for another run of these tests to end"));
            Flock::lock(file, FlockArg::LockExclusive).ok()
        }
        taken => taken.ok(),
    }
}

/// Past the test harness's capture: a test that did not run, or waits, must not look like one that passed or hangs.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// A cluster and the turn of the test that uses it. The cluster goes first.
#[derive(Debug)]
pub struct Stage {
    cluster: Cluster,
    _turn: Turn,
}

impl Deref for Stage {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

/// Names the mode that the agents of a whole run have, where a test asks for none.
pub const MODE: &str = "PORTICO_MODE";

/// A cluster of three nodes for the test that the name stands for; its namespaces are called `portico-NAME-…`.
pub fn cluster(name: &str) -> Builder {
    let builder = Cluster::builder(&format!("portico-{name}"));
    match std::env::var(MODE) {
        Ok(mode) => builder.mode(&mode),
        Err(_) => builder,
    }
}

/// The same with the service `web`: a number of tasks, TCP and UDP port 8080 on every node.
pub fn web(name: &str, tasks: u32) -> Builder {
    cluster(name).service("web", Service::new(&WEB), tasks)
}

/// A service whose tasks see their clients themselves, as packet programs show them unasked: proxies are asked for it.
pub fn seeing(service: Service) -> Service {
    match std::env::var(MODE) {
        Ok(mode) if mode != "ebpf" => service.with("proxy: { transparent: true }"),
        _ => service,
    }
}

impl Builder {
    /// Waits for the test's turn, builds, and waits until all agents serve. `None` where tests cannot run.
    ///
    /// # Panics
    /// With the reason, when there is no such cluster.
    pub fn stage(self) -> Option<Stage> {
        if self.needs_engines() && !engines(self.prefix(), DOCKER) {
            return None;
        }
        let turn = turn(self.prefix())?;
        let settled = self.build().and_then(|cluster| -> Result<Cluster> {
            cluster.settle()?;
            cluster.wait_hooked()?;
            Ok(cluster)
        });
        match settled {
            Ok(cluster) => Some(Stage { cluster, _turn: turn }),
            Err(error) => panic!("no cluster to test on: {error:#}"),
        }
    }
}
