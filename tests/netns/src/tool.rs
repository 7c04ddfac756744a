//! Running the machine's own tools, with errors that say what was asked and what was answered.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command to its end and gives its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    answer(command, output)
}

/// Runs `ip` over many lines in one process. With a namespace, all of them inside it.
pub fn ip(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (package iproute2)")?;
    let mut input = child.stdin.take().context("ip has no standard input")?;
    input.write_all(lines.join("\n").as_bytes())?;
    input.write_all(b"\n")?;
    drop(input);
    let output = child.wait_with_output()?;
    answer(&command, output)
        .with_context(|| format!("in {}:\n  {}", namespace.unwrap_or("all"), lines.join("\n  ")))?;
    Ok(())
}

fn answer(command: &Command, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{command:?} failed, {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One of the project's own programs: beside this one, or where `PORTICO_BIN` says.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests run from target/debug/deps, programs from target/debug.
    let mut places: Vec<PathBuf> = own.ancestors().skip(1).take(2).map(PathBuf::from).collect();
    if let Some(place) = std::env::var_os("PORTICO_BIN") {
        places.insert(0, place.into());
    }
    places
        .iter()
        .map(|place| place.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build` first (looked in {places:?})"))
}
