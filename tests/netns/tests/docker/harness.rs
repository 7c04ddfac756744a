//! The engines themselves, without agents: what the other tests stand on.

use netns::engine::IMAGE;
use netns::remains::{Machine, Traces};
use netns::{testing, wait};
use std::time::Duration;

#[test]
fn engines_answer_run_tasks_and_leave_nothing_behind() {
    let Some(_turn) = testing::turn("engines_answer_run_tasks_and_leave_nothing_behind") else {
        return;
    };
    let before = Machine::read();
    let mut cluster = testing::cluster("engine")
        .nodes(1)
        .engines()
        .without_agents()
        .build()
        .unwrap();
    let traces = Traces::of(&cluster, before).unwrap();
    assert_eq!(
        cluster.docker("node1", &["info", "-f", "{{.Name}}"]).unwrap(),
        "node1"
    );

    // The task program runs where there is nothing else, finds others by name, and says who it is.
    cluster.docker("node1", &["network", "create", "shop"]).unwrap();
    let run = ["run", "--detach", "--name"];
    let start = |name: &str, more: &[&str]| {
        cluster
            .docker("node1", &[&run[..], &[name], more, &[IMAGE]].concat())
            .unwrap()
    };
    start("web", &["--network", "shop", "--env", "SERVICE=web"]);
    start("frozen", &["--network", "shop", "--restart", "always"]);
    start("host", &["--network", "host"]);
    cluster.wait_health("node1", "web", "healthy").unwrap();
    let hostname = cluster.hostname("node1", "web").unwrap();
    let exec =
        |words: &[&str]| cluster.docker("node1", &[&["exec", "frozen", "/portico-task"], words].concat());
    let said: serde_json::Value = serde_json::from_str(&exec(&["ask", "http://web/"]).unwrap()).unwrap();
    assert_eq!(
        (&said["task"], &said["service"]),
        (&hostname.clone().into(), &"web".into())
    );
    let report = exec(&["ask", "http://web/", "--rate", "50", "--seconds", "0.5"]).unwrap();
    let report = netns::client::asker::hear(&report).unwrap();
    report.assert_flawless();
    assert_eq!(report.tasks().into_iter().collect::<Vec<_>>(), [hostname]);

    // Health follows the task's word.
    cluster
        .docker("node1", &["exec", "web", "/portico-task", "sick"])
        .unwrap();
    cluster.wait_health("node1", "web", "unhealthy").unwrap();
    cluster
        .docker("node1", &["exec", "web", "/portico-task", "well"])
        .unwrap();
    cluster.wait_health("node1", "web", "healthy").unwrap();

    // A paused container can be ended only by those who know how.
    cluster.docker("node1", &["pause", "frozen"]).unwrap();
    let pid = cluster.inspect("node1", "frozen").unwrap()["State"]["Pid"]
        .as_i64()
        .unwrap();
    cluster.kill_engine("node1").unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    cluster.start_engine("node1").unwrap();
    cluster.stop_engine("node1").unwrap();
    cluster.start_engine("node1").unwrap();
    wait::until(
        "a container that shall run always runs again",
        Duration::from_secs(20),
        || {
            let said = cluster.docker("node1", &["inspect", "-f", "{{.State.Running}}", "frozen"]);
            said.is_ok_and(|said| said == "true")
        },
    )
    .unwrap();
    cluster.docker("node1", &["pause", "frozen"]).unwrap();
    drop(cluster);
    assert_eq!(traces.left(), Vec::<String>::new());
}

#[test]
fn three_engines_make_a_swarm() {
    let cluster = testing::cluster("engines").engines().without_agents().stage();
    let Some(cluster) = cluster else { return };
    cluster.make_swarm(2).unwrap();
    let create = [
        "service",
        "create",
        "--detach",
        "--name",
        "web",
        "--replicas",
        "3",
        "--no-resolve-image",
        "--env",
        "NODE={{.Node.Hostname}}",
        "--network",
    ];
    cluster
        .docker("node1", &["network", "create", "--driver", "overlay", "inner"])
        .unwrap();
    cluster
        .docker("node1", &[&create[..], &["inner", IMAGE]].concat())
        .unwrap();
    let roles = cluster
        .docker(
            "node2",
            &["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"],
        )
        .unwrap();
    assert_eq!(roles, "node1 Leader\nnode2 Reachable\nnode3");
    wait::until("all tasks run", Duration::from_secs(40), || {
        let said = cluster.docker("node1", &["service", "ls", "--format", "{{.Replicas}}"]);
        said.is_ok_and(|said| said == "3/3")
    })
    .unwrap();
}
