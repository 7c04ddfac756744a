//! The agent as a container, by the files of `deploy/` as they are shipped: only places differ, by their variables.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netns::client::load::Plan;
use netns::engine::IMAGE;
use netns::testing::{self, Stage};
use netns::{Cluster, address, cgroup, tool, wait};

use crate::shop::{self, NODE};

/// What `deploy/docker-compose.yml` calls the agent's container.
const AGENT: &str = "portico";
/// A swarm asks a registry for images before it believes that there is none.
const PATIENCE: Duration = Duration::from_secs(90);

/// The image that `cargo xtask dist image --profile dev` leaves.
fn image() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let place = |directory: &Path| directory.join("dist/portico-image.tar");
    let found = own.ancestors().map(place).find(|place| place.is_file());
    found.expect(
        "no image of the agent: `cargo xtask test docker` makes it, or cargo xtask dist image --profile dev",
    )
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(name)
}

/// Engines whose nodes have what machines have: mounts that containers can follow, and a bpf file system each.
fn machines(name: &str, nodes: u8) -> Option<Stage> {
    let cluster = testing::cluster(name)
        .nodes(nodes)
        .engines()
        .without_agents()
        .stage()?;
    for node in cluster.nodes() {
        let namespaces = cluster.engine_directory(&node).join("exec/netns");
        let script =
            "mkdir -p $0 && mount --rbind $0 $0 && mount --make-rshared $0 && mkdir -p /sys/fs/bpf/$1";
        let mut command = cluster.command(&node, "sh").unwrap();
        tool::run(command.args(["-c", script]).arg(namespaces).arg(&node)).unwrap();
        let image = image();
        cluster
            .docker(&node, &["load", "--quiet", "--input", image.to_str().unwrap()])
            .unwrap();
    }
    Some(cluster)
}

/// Values of the files' variables; `node` may be a placeholder of the swarm's.
fn places(cluster: &Cluster, node: &str) -> Vec<(&'static str, String)> {
    let engine = cluster.engine_directory(node);
    let cgroup = cgroup::of(&cluster.state.prefix, node).unwrap();
    let place = |path: PathBuf| path.display().to_string();
    vec![
        ("PORTICO_SOCKET", place(cluster.engine_socket(node))),
        ("PORTICO_BPF", format!("/sys/fs/bpf/{node}")),
        ("PORTICO_CGROUP", place(cgroup)),
        ("PORTICO_NETNS", place(engine.join("exec/netns"))),
        ("PORTICO_DOCKER_ROOT", place(engine.join("data"))),
    ]
}

/// `portico ARGUMENTS` in the agent's container: whether it succeeded, and what it printed.
fn portico(cluster: &Cluster, node: &str, container: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = cluster.docker_command(node);
    let output = command
        .args(["exec", container, "/portico"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said)
}

/// Nothing fails: what of the machine the agent needs is mounted.
fn assert_sound(cluster: &Cluster, node: &str, container: &str) {
    let (_, checked) = portico(cluster, node, container, &["check"]);
    println!("{checked}");
    assert!(
        checked.contains("/host/sys/fs/bpf holds the pins") && !checked.contains("FAILURE"),
        "{checked}"
    );
    let (told, status) = portico(cluster, node, container, &["status"]);
    assert!(
        told && status.contains("attached to /host/sys/fs/cgroup") && !status.contains("failing"),
        "{status}"
    );
}

#[test]
fn the_compose_file_runs_an_agent_that_serves_and_can_be_replaced() {
    let Some(cluster) = machines("deploy", 1) else {
        return;
    };
    let (mut web, mut backends) = (BTreeSet::new(), String::new());
    for number in 1..=3 {
        let name = format!("web-{number}");
        let run = ["run", "--detach", "--hostname", &name, "--name", &name, IMAGE];
        cluster.docker(NODE, &run).unwrap();
        let container = cluster.inspect(NODE, &name).unwrap();
        let address = container["NetworkSettings"]["IPAddress"].as_str().unwrap();
        backends += &format!("      - {{ node: {NODE}, address: {address}, task: {name} }}\n");
        web.insert(name);
    }
    let configuration = cluster.state.node_directory(NODE).join("portico");
    fs::create_dir_all(&configuration).unwrap();
    let text = format!("[cluster]\nsecret = {:?}\n", cluster.secret());
    fs::write(configuration.join("portico.toml"), text).unwrap();
    let own = cluster.state.nodes[NODE].address(0).v4;
    let services = format!(
        "nodes: {{ {NODE}: {own} }}\nservices:\n  site:\n    ports: [\"8080:80\"]\n    backends:\n{backends}"
    );
    fs::write(configuration.join("services.yaml"), services).unwrap();
    let mut lines = places(&cluster, NODE);
    lines.push(("PORTICO_CONFIG", configuration.display().to_string()));
    let lines: String = lines
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    let environment = cluster.write_file("compose.env", &lines).unwrap();
    let environment = environment.to_str().unwrap();
    let compose = |arguments: &[&str]| {
        let arguments = [&["--env-file", environment], arguments].concat();
        cluster
            .compose(NODE, "mesh", &shipped("docker-compose.yml"), &arguments)
            .unwrap()
    };

    compose(&["up", "--detach"]);
    cluster.wait_health(NODE, AGENT, "healthy").unwrap();
    let target = shop::published(&cluster, 8080);
    shop::wait_answers(&cluster, target, |names| *names == web);
    assert_sound(&cluster, NODE, AGENT);
    let reserved = cluster.command(NODE, "cat").unwrap();
    assert_eq!(
        read_sysctl(reserved),
        "8080",
        "as the agent wrote it on the machine"
    );

    // The agent is restarted, and replaced by another container.
    let fresh = Plan::new_connections(&[target], 50.0).start(&cluster.client());
    let kept = Plan::keep_alive(&[target], 30.0).start(&cluster.client());
    fresh.wait_for(50).unwrap();
    cluster.docker(NODE, &["restart", AGENT]).unwrap();
    fresh.wait_for(100).unwrap();
    compose(&["up", "--detach", "--force-recreate"]);
    cluster.wait_health(NODE, AGENT, "healthy").unwrap();
    fresh.wait_for(50).unwrap();
    let report = fresh.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.clients, BTreeSet::from([IpAddr::from(address::CLIENT.v4)]));
    kept.stop().unwrap().assert_flawless();
    assert_sound(&cluster, NODE, AGENT);
    // Its tables are on the machine, not in the container.
    compose(&["down", "--volumes"]);
    assert_eq!(shop::answers(&cluster, target, 30), web);
}

fn read_sysctl(mut cat: std::process::Command) -> String {
    let said = tool::run(cat.arg("/proc/sys/net/ipv4/ip_local_reserved_ports")).unwrap();
    said.trim().to_owned()
}

#[test]
fn the_stack_file_runs_an_agent_on_every_node_of_a_swarm() {
    let Some(cluster) = machines("stack", 3) else {
        return;
    };
    cluster.make_swarm(1).unwrap();
    let secret = cluster.write_file("secret", &cluster.secret()).unwrap();
    let manager = |arguments: &[&str]| cluster.docker(NODE, arguments).unwrap();
    manager(&["secret", "create", "portico-secret", secret.to_str().unwrap()]);
    let file = shipped("portico-stack.yml");
    let deploy = ["stack", "deploy", "--resolve-image", "never", "--compose-file"];
    let mut command = cluster.docker_command(NODE);
    command
        .args(deploy)
        .arg(&file)
        .arg("portico")
        .envs(places(&cluster, "{{.Node.Hostname}}"));
    tool::run(&mut command).unwrap();

    let agents = wait::until_some("an agent is healthy on every node", PATIENCE, || {
        let ask = |node: &String| {
            let filter = [
                "--filter",
                "label=com.docker.swarm.service.name=portico_agent",
                "--filter",
            ];
            let list = [&["ps", "--quiet"], &filter[..], &["health=healthy"]].concat();
            let said = cluster.docker(node, &list)?;
            anyhow::ensure!(!said.is_empty(), "none on {node}");
            Ok((node.clone(), said))
        };
        let all: anyhow::Result<Vec<_>> = cluster.nodes().iter().map(ask).collect();
        all.map(Some)
    });
    let agents = agents.unwrap_or_else(|error| {
        panic!(
            "{error:#}\n{}",
            manager(&["stack", "ps", "--no-trunc", "portico"])
        )
    });
    let agents = agents.0;

    for (node, agent) in &agents {
        let (_, checked) = portico(&cluster, node, agent, &["check"]);
        println!("{checked}");
        for word in ["configuration", "capabilities", "bpffs", "cgroup2", "devices"] {
            let passed = checked
                .lines()
                .any(|line| line.starts_with("ok ") && line.contains(word));
            assert!(passed, "{word}: {checked}");
        }
        assert!(
            checked.contains(&format!("node {node}, cluster secret set")),
            "{checked}"
        );
        assert!(checked.contains("/host/sys/fs/bpf holds the pins"), "{checked}");
    }
    manager(&["stack", "rm", "portico"]);
}
