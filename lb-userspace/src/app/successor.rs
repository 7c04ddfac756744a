//! Another agent of the same program and the same arguments, which takes over from this one: a new binary, or another
//! `portico.toml`, without an end.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

/// Starts it. What becomes of it is told in the log; until it has everything this agent goes on.
pub fn start() -> io::Result<()> {
    if std::process::id() == 1 {
        let why = "the agent is the first process of its container, which would end with it";
        return Err(io::Error::new(ErrorKind::Unsupported, why));
    }
    let mut command = Command::new(program()?);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null());
    let mut child = command.spawn()?;
    tracing::info!(process = child.id(), "started a successor");
    tokio::spawn(async move {
        if let Ok(status) = child.wait().await {
            tracing::warn!(%status, "the successor has ended");
        }
    });
    Ok(())
}

/// This one's file, or the one that has taken its place since.
fn program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let text = program.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or(program.clone(), PathBuf::from))
}
