//! The log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts the log on standard error: what `RUST_LOG` asks for, else what an operator wants to know.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // systemd's journal stamps lines itself. A log that runs already (in a test) goes on.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    };
}
