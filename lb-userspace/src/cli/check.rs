//! `portico check`: whether this machine can run an agent, and whether the running one is as it should be.

mod agent;
mod devices;
mod files;
mod finding;
mod kernel;
mod mounts;
mod names;
mod ports;
mod privileges;
mod vips;

use std::path::Path;
use std::process::ExitCode;

use super::output::{Format, print};
use crate::api::published::Published;
use crate::api::status::Status;
use crate::api::{Client, Problem};
use crate::config::Mode;
use finding::{Finding, State};

/// Runs every test. Exit code 0: all passed, 1: warnings, 2: failures.
pub async fn check(
    config: Option<&Path>,
    socket: Option<&Path>,
    format: Format,
) -> Result<ExitCode, Problem> {
    let (config, mut findings) = files::config(config);
    let client = Client::new(socket.map_or_else(|| config.paths.socket(), Into::into));
    let (written, found) = files::services(&config);
    // The agent knows what all sources want; without it, only a services file says anything.
    let published: Option<Published> = match client.get("/v1/published").await {
        Ok(published) => Some(published),
        Err(_) => written.as_ref().map(Published::wanted),
    };
    let published = published.as_ref();
    let status: Result<Status, Problem> = client.get("/v1/status").await;
    let own = client.get("/v1/sockets").await.unwrap_or_default();
    let alone = status.as_ref().map_or(config.mode == Mode::Proxy, |status| {
        !status.planes.iter().any(agent::is_of_packets)
    });
    findings.extend(privileges::check(&config, published));
    if config.mode == Mode::Proxy {
        let words = "none are wanted: mode = \"proxy\". The kernel's version, BTF, bpffs, cgroup2 and devices do not matter";
        findings.push(Finding::ok("programs", words));
    } else {
        findings.extend(kernel::check());
        findings.extend(mounts::check(&config));
        findings.extend(devices::check(&config).await);
    }
    findings.extend(found);
    findings.extend(vips::check(&config.vip, published).await);
    findings.extend(ports::check(published, &own, alone));
    findings.extend(names::check(&config, published, status.is_ok()).await);
    findings.extend(agent::check(&client, status, config.mode).await);
    let worst = findings
        .iter()
        .map(|finding| finding.state)
        .max()
        .unwrap_or(State::Ok);
    print(format, &findings, |findings| finding::text(findings))?;
    Ok(ExitCode::from(worst as u8))
}
