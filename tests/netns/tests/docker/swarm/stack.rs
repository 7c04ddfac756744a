//! Services of one swarm that call each other by name, and all the ways in which the swarm lets a service be reached.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use netns::client::asker;
use netns::client::http::{self, Connection};
use netns::client::report::Report;
use netns::engine::IMAGE;
use netns::wait;

use super::{PATIENCE, Swarm, hostnet};

#[test]
fn services_of_a_stack_call_each_other_by_name_over_the_mesh() {
    let Some(mut swarm) = Swarm::make("stack", 1) else {
        return;
    };
    deploy(&swarm);
    let api = swarm.wait_served("shop_api", 3);
    let front = swarm.wait_served("shop_front", 1);
    let front = front.keys().next().unwrap();

    // By Portico's own name server, which containers are led to without knowing.
    let own = swarm.resolve(front, "api");
    assert_eq!(own.len(), 1, "a VIP, not the tasks: {own:?}");
    for name in ["api", "shop_api", "api.shop", "API"] {
        assert_eq!(swarm.resolve(front, name), own, "{name}");
        swarm.reaches(front, name, api.keys());
    }
    // Asked for all tasks, it names them; one of them is answered by the network itself.
    assert_eq!(swarm.resolve(front, "tasks.api").len(), 3);
    in_all_ways(&swarm, front);
    hostnet::is_served_on_every_node(&swarm);

    // By Docker's, which knows nothing of Portico: its answer leads to the mesh, too.
    let given = swarm.assigned("shop_api");
    assert_ne!(own, given);
    swarm
        .cluster
        .state
        .configuration
        .push_str("[dns]\nlisten = [\"169.254.20.10:53\"]\nupstreams = [\"192.0.2.1\"]\nintercept = false\n");
    swarm.cluster.kill_agent("node1").unwrap();
    swarm.cluster.start_agent("node1").unwrap();
    swarm.cluster.wait_agents().unwrap();
    swarm.wait_served("shop_api", 3);
    wait::until("Docker answers for itself", PATIENCE, || {
        swarm.resolve(front, "api") == given
    })
    .unwrap();
    swarm.reaches(front, "api", api.keys());
    swarm.reaches(front, &given[0], api.keys());
}

/// A shop of two services, the first on the manager, where a test can look over its shoulder.
pub fn deploy(swarm: &Swarm) {
    let environment =
        "environment: [\"SERVICE={{.Service.Name}}\", \"TASK={{.Task.Name}}\", \"NODE={{.Node.Hostname}}\"]";
    let text = format!(
        "version: \"3.8\"
services:
  front:
    image: {IMAGE}
    {environment}
    ports: [\"8080:80\"]
    deploy: {{ placement: {{ constraints: [\"node.role == manager\"] }} }}
  api:
    image: {IMAGE}
    {environment}
    deploy:
      replicas: 3
      placement: {{ max_replicas_per_node: 1 }}
      labels: {{ portico.expose: \"80\" }}
"
    );
    let file = swarm.cluster.write_file("shop.yaml", &text).unwrap();
    let file = file.to_str().unwrap();
    swarm.docker(&[
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "--compose-file",
        file,
        "shop",
    ]);
}

/// Endpoint modes, publish modes, placement.
fn in_all_ways(swarm: &Swarm, front: &str) {
    let network = ["--network", "shop_default"];
    swarm.docker(&["node", "update", "--label-add", "disk=fast", "node3"]);
    let fast = ["--constraint", "node.labels.disk==fast"];
    swarm.create(
        "all",
        &[&["--mode", "global", "--publish", "8081:80"][..], &network].concat(),
    );
    swarm.create(
        "rr",
        &[&["--replicas", "2", "--endpoint-mode", "dnsrr"][..], &network].concat(),
    );
    swarm.create("placed", &[&["--publish", "8082:80"][..], &fast].concat());
    let host = "mode=host,published=8083,target=80";
    swarm.create("own", &[&["--publish", host][..], &fast].concat());

    // A global service has a task on every node, and every node leads to all of them.
    let all = swarm.wait_served("all", 3);
    assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
    swarm.every_node_answers(8081, all.keys(), false);
    swarm.reaches(front, "all", all.keys());

    // Without a VIP its name is all of its tasks, on the network that it shares with whoever asks.
    let rr = swarm.wait_served("rr", 2);
    assert_eq!(swarm.resolve(front, "rr").len(), 2);
    swarm.reaches(front, "rr", rr.keys());

    // The only task is where its constraint has it, and every node leads there.
    let placed = swarm.wait_served("placed", 1);
    assert!(placed.values().all(|node| node == "node3"), "{placed:?}");
    swarm.every_node_answers(8082, placed.keys(), false);

    // A port of the task's node is its engine's own business: the others have none.
    let own = swarm.wait_served("own", 1);
    let client = swarm.cluster.client();
    let answer = http::ask(&client, swarm.port_of("node3", 8083)).unwrap();
    assert!(own.contains_key(&answer.task), "{answer:?}");
    for node in ["node1", "node2"] {
        let target = swarm.port_of(node, 8083);
        let error = client
            .run(|| Connection::open(target, None).map(drop))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{node}");
    }
}

impl Swarm {
    /// The addresses that the swarm has given to a service, without those of published ports.
    pub fn assigned(&self, service: &str) -> Vec<String> {
        let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}";
        let said = self.docker(&["service", "inspect", "--format", format, service]);
        let ingress = self.docker(&["network", "inspect", "--format", "{{.Id}}", "ingress"]);
        let addresses = said.lines().filter_map(|line| line.split_once(' '));
        let own = addresses.filter(|(network, _)| *network != ingress);
        own.filter_map(|(_, address)| Some(address.split_once('/')?.0.to_owned()))
            .collect()
    }

    /// Runs the task program inside a task of a node.
    pub fn inside(&self, node: &str, task: &str, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.cluster.docker_command(node);
        let output = command
            .args(["exec", task, "/portico-task"])
            .args(words)
            .output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        anyhow::ensure!(
            output.status.success(),
            "{words:?} in {task}: {}",
            text(output.stderr)
        );
        Ok(text(output.stdout))
    }

    /// What a name leads to inside a task.
    fn resolve(&self, task: &str, name: &str) -> Vec<String> {
        let said = self
            .inside("node1", task, &["resolve", name])
            .unwrap_or_else(|error| error.to_string());
        let mut addresses: Vec<String> = said.lines().map(str::to_owned).collect();
        addresses.sort();
        addresses
    }

    /// Inside a task a name leads to all of these, and every request is answered.
    fn reaches<'t>(&self, task: &str, name: &str, tasks: impl IntoIterator<Item = &'t String>) {
        let url = format!("http://{name}/");
        let said = self
            .inside("node1", task, &["ask", &url, "--rate", "80", "--seconds", "0.6"])
            .unwrap();
        let report: Report = asker::hear(&said).unwrap();
        println!(
            "{name} from a task: {} requests to {:?}, {} failed, the slowest took {:?}",
            report.requests(),
            report
                .answers
                .keys()
                .map(|(target, _)| target.ip())
                .collect::<BTreeSet<_>>(),
            report.failures.len(),
            report.slowest
        );
        report.assert_flawless();
        assert_eq!(
            report.tasks(),
            tasks.into_iter().map(String::as_str).collect(),
            "{name}"
        );
    }
}
