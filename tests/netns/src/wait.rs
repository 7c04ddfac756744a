//! Waiting on conditions: no test sleeps and hopes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks until the answer is yes. After `deadline` it fails, naming what was waited for.
pub fn until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Result<Duration> {
    until_some(what, deadline, || Ok::<_, String>(holds().then_some(()))).map(|((), took)| took)
}

/// Asks until there is an answer; gives it and the time it took. The last error is part of the failure.
pub fn until_some<T, E: std::fmt::Display>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, E>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        let error = match ask() {
            Ok(Some(answer)) => return Ok((answer, start.elapsed())),
            Ok(None) => String::new(),
            Err(error) => format!(" ({error})"),
        };
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain: {what}{error}");
        }
        sleep(Duration::from_millis(10));
    }
}
