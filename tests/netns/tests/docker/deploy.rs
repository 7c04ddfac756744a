//! The agent as a container, by the files of `deploy/` as they are shipped: only places differ, by their variables.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;
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
    }
    let (image, engines): (_, &Cluster) = (image(), &cluster);
    std::thread::scope(|scope| {
        for node in cluster.nodes() {
            let load = ["load", "--quiet", "--input", image.to_str().unwrap()];
            scope.spawn(move || engines.docker(&node, &load).unwrap());
        }
    });
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

/// `deploy/docker-compose.yml` with the places of a node.
struct Installed {
    environment: String,
}

impl Installed {
    fn run(&self, cluster: &Cluster, arguments: &[&str]) {
        let arguments = [&["--env-file", &self.environment], arguments].concat();
        let file = shipped("docker-compose.yml");
        cluster.compose(NODE, "mesh", &file, &arguments).unwrap();
    }
}

/// The files that the machine has beside the shipped one; `more` is added to the agent's configuration.
fn installed(cluster: &Cluster, more: &str) -> Installed {
    let configuration = cluster.state.node_directory(NODE).join("portico");
    fs::create_dir_all(&configuration).unwrap();
    let text = format!("[cluster]\nsecret = {:?}\n{more}", cluster.secret());
    fs::write(configuration.join("portico.toml"), text).unwrap();
    let mut lines = places(cluster, NODE);
    lines.push(("PORTICO_CONFIG", configuration.display().to_string()));
    let lines: String = lines
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    let environment = cluster.write_file("compose.env", &lines).unwrap();
    Installed {
        environment: environment.display().to_string(),
    }
}

#[test]
fn the_compose_file_runs_an_agent_that_serves_and_can_be_replaced() {
    let Some(cluster) = machines("deploy", 1) else {
        return;
    };
    let web: BTreeSet<String> = (1..=3).map(|number| format!("web-{number}")).collect();
    for name in &web {
        let run = ["run", "--detach", "--hostname", name, "--name", name];
        let labels = [
            "--label",
            "portico.service=web",
            "--label",
            "portico.ports=8080:80",
        ];
        cluster
            .docker(NODE, &[&run[..], &labels, &[IMAGE]].concat())
            .unwrap();
    }
    let compose = installed(&cluster, "");
    let compose = |arguments: &[&str]| compose.run(&cluster, arguments);
    compose(&["up", "--detach"]);
    cluster.wait_health(NODE, AGENT, "healthy").unwrap();
    let target = shop::published(&cluster, 8080);
    shop::wait_answers(&cluster, target, |names| *names == web);
    held(&cluster);
    assert_sound(&cluster, NODE, AGENT);
    let reserved = cluster.command(NODE, "cat").unwrap();
    assert_eq!(
        read_sysctl(reserved),
        "8080,8082",
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

/// A port that the engine publishes for one replica, and listens at: the node's own processes reach both replicas by it,
/// although the agent does not see whose the listener is.
fn held(cluster: &Cluster) {
    for (name, ports) in [("held-1", &[][..]), ("held-2", &["--publish", "8082:80"])] {
        let run = ["run", "--detach", "--hostname", name, "--name", name];
        let label = ["--label", "portico.service=held"];
        cluster
            .docker(NODE, &[&run[..], &label, ports, &[IMAGE]].concat())
            .unwrap();
    }
    let both = BTreeSet::from(["held-1", "held-2"].map(str::to_owned));
    shop::wait_answers(cluster, shop::published(cluster, 8082), |names| *names == both);
    // In the node's cgroup, which its agent has attached programs to. By IPv4 alone: the replicas have no other address.
    wait::until("the node reaches both replicas", shop::PATIENCE, || {
        let mut asker = cluster.command(NODE, "python3").unwrap();
        let url = "http://127.0.0.1:8082/";
        let output = asker.args(["-c", ASKING, url]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().map(str::to_owned).collect::<BTreeSet<_>>() == both
    })
    .unwrap();
}

/// Asks for a page thirty times, and says which task each is of.
const ASKING: &str = "
import json, sys, urllib.request
for _ in range(30):
    print(json.load(urllib.request.urlopen(sys.argv[1], timeout=5))['task'])
";

/// Connects, says so, and then how the connection ends.
const WAITING: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], 80), 10)
connection.settimeout(30)
print('connected', flush=True)
try:
    print('read', connection.recv(1), flush=True)
except OSError as error:
    print(error.errno, flush=True)
";

#[test]
fn an_agent_in_a_container_ends_sockets_of_others() {
    let Some(cluster) = machines("sockets", 1) else {
        return;
    };
    let run = ["run", "--detach", "--name"];
    let labels = ["--label", "portico.expose=80"];
    cluster
        .docker(NODE, &[&run[..], &["lone"], &labels, &[IMAGE]].concat())
        .unwrap();
    cluster
        .docker(NODE, &[&run[..], &["asks", IMAGE]].concat())
        .unwrap();
    installed(&cluster, "[networks]\nflat = [\"172.17.0.0/16\"]\n").run(&cluster, &["up", "--detach"]);
    cluster.wait_health(NODE, AGENT, "healthy").unwrap();
    let vip = wait::until_some("lone has a VIP and a task", Duration::from_secs(30), || {
        let (_, said) = portico(&cluster, NODE, AGENT, &["service", "show", "lone", "-o", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&said)?;
        anyhow::ensure!(
            shown["tasks"][0]["state"] == "active",
            "no task takes connections: {shown}"
        );
        let vip = |vip: &serde_json::Value| vip.as_str().filter(|vip| vip.contains('.')).map(str::to_owned);
        Ok(shown["naming"]["vips"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(vip))
    });
    let (vip, _) = vip.unwrap();

    let pid = cluster.inspect(NODE, "asks").unwrap()["State"]["Pid"].to_string();
    let mut command = cluster.command(NODE, "nsenter").unwrap();
    command
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(["python3", "-c", WAITING, &vip])
        .stdout(std::process::Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    let mut lines = std::io::BufReader::new(waiting.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "connected");
    // Its task cannot say goodbye: it has lost its network.
    cluster
        .docker(NODE, &["network", "disconnect", "--force", "bridge", "lone"])
        .unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), libc::ECONNABORTED.to_string());
    waiting.wait().unwrap();
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

    // A port of the swarm answers on every node, with the client's address kept.
    let create = [
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        "web",
        "--replicas",
        "3",
        "--publish",
        "8080:80",
        IMAGE,
    ];
    manager(&create);
    let targets = cluster.ports(8080);
    for target in targets.iter().filter(|target| target.is_ipv4()) {
        shop::wait_answers(&cluster, *target, |names| names.len() == 3);
    }
    let targets: Vec<_> = targets.into_iter().filter(|target| target.is_ipv4()).collect();
    let load = Plan::new_connections(&targets, 50.0).start(&cluster.client());
    load.wait_for(150).unwrap();
    let report = load.stop().unwrap();
    report.assert_flawless();
    assert_eq!(report.clients, BTreeSet::from([IpAddr::from(address::CLIENT.v4)]));
    for (node, agent) in &agents {
        assert_sound(&cluster, node, agent);
    }
    manager(&["stack", "rm", "portico"]);
}
