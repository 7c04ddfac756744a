//! With `dns.intercept` the names of containers are answered whichever resolver they ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netns::testing::Stage;
use netns::{address, names, tool, wait};

use crate::support::near_and_far::{far, stage_with};

/// As in a container whose names lead to Docker's own resolver, and in one that has the machine's.
#[test]
fn names_of_containers_are_answered_whichever_resolver_they_ask() {
    let dns = "[dns]\nlisten = [\"169.254.20.10:53\"]\nupstreams = [\"192.0.2.1\"]\nintercept = true";
    let Some(mut cluster) = stage_with("intercept", dns) else {
        return;
    };
    let vip = far(&cluster).ip().to_string();
    let name = "far.portico.internal";
    let dig = |cluster: &Stage, place: &str, arguments: &[&str]| {
        let mut dig = cluster.command(place, "dig").unwrap();
        let output = dig
            .args(["+short", "+tries=1", "+time=2"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for server in ["@127.0.0.11", "@192.0.2.1"] {
        // dig believes nobody but whom it asked.
        assert_eq!(dig(&cluster, "near.1", &[server, name, "A"]), vip, "{server}");
        assert_eq!(
            dig(&cluster, "near.1", &[server, name, "A", "+tcp"]),
            vip,
            "{server} by TCP"
        );
        assert_eq!(
            dig(&cluster, "near.1", &[server, names::OUTSIDE, "A"]),
            address::CLIENT.v4.to_string()
        );
    }
    // The node's own processes are never steered, and neither is anything but names.
    for server in ["@127.0.0.11", "@192.0.2.1"] {
        let answer = dig(&cluster, "node1", &[server, name, "A"]);
        assert!(!answer.contains(&vip), "{server}: {answer}");
    }
    let elsewhere = dig(&cluster, "near.1", &["@192.0.2.1", "-p", "5353", name, "A"]);
    assert!(!elsewhere.contains(&vip), "{elsewhere}");

    let directory = cluster.state.node_directory("node1");
    for (library, compiler, extra) in [("glibc", "cc", &[][..]), ("musl", "musl-gcc", &["-static"][..])] {
        let program = resolver(&directory, library, compiler, extra);
        for server in ["127.0.0.11", "192.0.2.1"] {
            // musl asks all of them at once from one socket, and hears only whom it asked.
            fs::write(
                directory.join("task.resolv.conf"),
                format!("nameserver {server}\n"),
            )
            .unwrap();
            let mut command = cluster.command("near.1", &program).unwrap();
            let text = tool::run(command.arg(name)).unwrap();
            assert!(
                text.lines().any(|line| line == vip),
                "{library} asks {server}: {text}"
            );
        }
    }

    // Without an agent containers ask their own resolvers again; their way there is Docker's.
    cluster.masquerade().unwrap();
    cluster.kill_agent("node1").unwrap();
    wait::until("containers ask for themselves", Duration::from_secs(15), || {
        dig(&cluster, "near.1", &["@192.0.2.1", names::OUTSIDE, "A"]) == address::CLIENT.v4.to_string()
    })
    .unwrap();
}

/// A program that prints the addresses of a name.
fn resolver(directory: &Path, library: &str, compiler: &str, extra: &[&str]) -> PathBuf {
    let source = directory.join("resolve.c");
    fs::write(&source, include_str!("support/resolve.c")).unwrap();
    let program = directory.join(format!("resolve-{library}"));
    let mut command = std::process::Command::new(compiler);
    tool::run(command.arg(&source).arg("-o").arg(&program).args(extra)).unwrap();
    program
}
