//! What every test in namespaces needs: the right to make them, and a turn of its own.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};

/// Two cores serve one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A turn, for as long as it lives: no other test of this machine has one.
#[derive(Debug)]
pub struct Turn {
    _file: Option<Flock<File>>,
    _guard: MutexGuard<'static, ()>,
}

/// A turn, held for as long as the test runs. Without root there is none: the test says SKIPPED, and fails in CI.
pub fn turn(test: &str) -> Option<Turn> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI has it");
        // Past the test harness's capture: a test that did not run must not look like one that passed.
        let _ = writeln!(
            std::io::stderr(),
            "{test} SKIPPED: it makes network namespaces and needs root"
        );
        return None;
    }
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Another run of the same tests, from another directory say, would take this one's cluster for its own.
    let file = File::create(std::env::temp_dir().join("portico-netns-tests.lock")).ok();
    let file = file.and_then(|file| Flock::lock(file, FlockArg::LockExclusive).ok());
    Some(Turn {
        _file: file,
        _guard: guard,
    })
}
