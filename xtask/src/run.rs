//! Commands that keep the terminal, and errors that name them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command and its arguments, started in the workspace's root.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Cargo, the one that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    command(&cargo, arguments)
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Where cargo leaves the programs of `profile`; this one lies in a sibling of it.
pub fn binaries(profile: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program lies")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("this program lies in no target directory")?;
    Ok(target.join(profile))
}

/// Runs to the end on this terminal; fails if the command does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// What the command prints, if it can be run and succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let name = PathBuf::from(command.get_program());
    let name = name
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().into_owned();
        let value = if value.contains(' ') {
            format!("'{value}'")
        } else {
            value
        };
        Some(format!("{}={value}", name.to_string_lossy()))
    });
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned());
    set.chain([name]).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = command("/somewhere/cargo", &["doc", "--no-deps"]);
        command.env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(line(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(&mut command("false", &["of", "course"]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`false of course` failed: "), "{error}");
    }
}
