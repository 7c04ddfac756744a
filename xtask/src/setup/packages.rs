//! Debian packages.

use anyhow::{Context, Result, bail};

use crate::run::{command, output, run};

/// Installs those of the packages that are missing; each comes with its reason.
pub fn install(wanted: &[(&str, &str)]) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: installing Debian packages:");
    for (name, reason) in &missing {
        println!("  {name:<26} {reason}");
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let by_hand = format!("apt-get install {}", names.join(" "));
    if output(&mut command("apt-get", &["--version"])).is_none() {
        bail!(
            "this system has no apt-get; install what `{by_hand}` would bring on Debian, and run this again"
        );
    }
    if output(&mut command("id", &["-u"])).as_deref() != Some("0") {
        bail!("packages are installed by root; run `{by_hand}` as root, and this again");
    }
    let arguments = [&["install", "--yes", "--no-install-recommends"], names.as_slice()].concat();
    let mut install = command("apt-get", &arguments);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    // An image without package lists cannot find anything: fetch them, once, only then.
    if run(&mut install).is_err() {
        run(command("apt-get", &["update"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
        run(&mut install).with_context(|| format!("`{by_hand}` does not succeed on this system"))?;
    }
    Ok(())
}

fn missing<'a>(wanted: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut query = command(
        "dpkg-query",
        &["--show", "--showformat", "${Package} ${db:Status-Status}\n"],
    );
    // Fails for packages it has never heard of, and lists the others all the same.
    let known = query
        .args(wanted.iter().map(|(name, _)| name))
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    wanted
        .iter()
        .filter(|(name, _)| !known.lines().any(|line| line == format!("{name} installed")))
        .copied()
        .collect()
}
