//! Names, as a task meets them: by the C library's resolver, in a task of another service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use netns::client::{http, udp};
use netns::{Cluster, wait};

use super::claims::Claims;

/// Who asks.
const ASKER: &str = "web.1";
/// Requests by name over each family and protocol.
const REQUESTS: u32 = 40;
/// A probe must fail three times; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows that names lead to tasks, and that they follow what becomes of them.
pub fn show(cluster: &mut Cluster, claims: &mut Claims) -> Result<()> {
    println!("\nexec {ASKER} -- getent ahosts api");
    let addresses = cluster.resolve(ASKER, "api")?;
    let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    println!("  {}", words.join("  "));
    claims.hold(
        "a task finds the VIPs of api by its name, IPv4 and IPv6",
        addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6),
        words.join(" "),
    );
    let outside = cluster.resolve(ASKER, &format!("www.{}", netns::names::OUTSIDE))?;
    claims.hold(
        "a name that is not the mesh's is found by the upstream",
        !outside.is_empty(),
        String::new(),
    );

    let mut failed = Vec::new();
    let answered = ask_by_name(cluster, &mut failed);
    claims.hold(
        "every request to api by name was answered",
        failed.is_empty(),
        failed.join("; "),
    );
    let all = tasks(cluster);
    claims.hold(
        "requests by name reach all tasks of api on all nodes, TCP and UDP, IPv4 and IPv6",
        answered.len() == 4 && answered.iter().all(|tasks| *tasks == all),
        format!("{answered:?} of {all:?}"),
    );

    println!("\nscale api=4");
    cluster.add_task("api", None)?;
    let start = Instant::now();
    cluster.publish()?;
    let seen = follow(cluster, "api.4", true);
    claims.hold(
        &format!(
            "the fourth task has a name after {} ms",
            start.elapsed().as_millis()
        ),
        seen.is_ok(),
        error(seen),
    );
    cluster.settle()?;

    println!("\nthe fourth task of api drains, the third is sick");
    cluster.drain_task("api.4")?;
    let gone = follow(cluster, "api.4", false);
    claims.hold("a draining task leaves the answers", gone.is_ok(), error(gone));
    let sick = cluster.health_file("api.3");
    std::fs::write(&sick, "")?;
    let gone = follow(cluster, "api.3", false);
    claims.hold("an unhealthy task leaves the answers", gone.is_ok(), error(gone));
    std::fs::remove_file(sick)?;
    let back = follow(cluster, "api.3", true);
    claims.hold("it is back when it is well", back.is_ok(), error(back));
    cluster.scale("api", 3)
}

/// Resolves and asks over both families and protocols; the tasks that answered over each.
fn ask_by_name(cluster: &Cluster, failed: &mut Vec<String>) -> Vec<BTreeSet<String>> {
    let asker = cluster.place(ASKER);
    let mut answered = Vec::new();
    for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let [mut tcp, mut datagrams] = [BTreeSet::new(), BTreeSet::new()];
        for _ in 0..REQUESTS {
            let found = cluster.resolve(ASKER, "api").unwrap_or_default();
            let Some(address) = found.into_iter().find(family) else {
                failed.push("api has no address".into());
                continue;
            };
            match http::ask(&asker, (address, 80).into()) {
                Ok(answer) => drop(tcp.insert(answer.task)),
                Err(error) => failed.push(format!("TCP {address}: {error:#}")),
            }
            match udp::ask(&asker, (address, 80).into()) {
                Ok((task, _)) => drop(datagrams.insert(task)),
                Err(error) => failed.push(format!("UDP {address}: {error:#}")),
            }
        }
        answered.extend([tcp, datagrams]);
    }
    answered
}

fn tasks(cluster: &Cluster) -> BTreeSet<String> {
    let tasks = cluster.state.tasks_of("api").into_iter();
    tasks.map(|(name, _)| name).collect()
}

/// Waits until a task's own name has an address, or none.
fn follow(cluster: &Cluster, task: &str, there: bool) -> Result<Duration> {
    let what = format!("{task} has {}", if there { "an address" } else { "none" });
    wait::until(&what, PATIENCE, || {
        let found = cluster.resolve(ASKER, task);
        found.is_ok_and(|addresses| addresses.is_empty() != there)
    })
}

fn error(result: Result<Duration>) -> String {
    result.err().map(|error| format!("{error:#}")).unwrap_or_default()
}
