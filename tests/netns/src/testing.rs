//! What every test in namespaces needs: the right to make them, and a turn of its own.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two cores serve one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A turn, held for as long as the test runs. Without root there is none: the test says SKIPPED, and fails in CI.
pub fn turn(test: &str) -> Option<MutexGuard<'static, ()>> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI has it");
        // Past the test harness's capture: a test that did not run must not look like one that passed.
        let _ = writeln!(
            std::io::stderr(),
            "{test} SKIPPED: it makes network namespaces and needs root"
        );
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}
