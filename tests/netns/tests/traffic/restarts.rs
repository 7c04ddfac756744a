//! An agent is replaced by another one that is started beside it, under load: nobody is refused, nobody is cut off.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use netns::client::idle::Idle;
use netns::client::load::Plan;
use netns::client::udp::Sender;
use netns::process::Process;
use netns::systemd::Systemd;
use netns::{Cluster, testing, wait};
use nix::sys::signal::Signal;

/// What an agent that was replaced waits for its last connection, and for nodes that may still ask it.
const ENDS: Duration = Duration::from_secs(40);

/// New connections and kept ones to every node over both families, connections that say nothing until the end, and datagrams:
/// all of it while each agent is replaced, twice. Where agents carry connections themselves, these are local ones and relayed
/// ones, seen from both of their nodes.
#[test]
fn replacing_every_agent_under_load_fails_no_request_and_ends_no_connection() {
    let Some(mut cluster) = testing::web("replace", 3).stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    let mut idle = Idle::open(&cluster.client(), &targets, 60).unwrap();
    assert_eq!(idle.by_task().len(), 3);
    let loads = [
        Plan::keep_alive(&targets, 100.0),
        Plan::new_connections(&targets, 200.0),
    ]
    .map(|plan| plan.start(&cluster.client()));
    let senders: Vec<_> = targets
        .iter()
        .map(|&target| Sender::start(&cluster.client(), target, 20.0))
        .collect();
    let go_on = || loads.iter().for_each(|load| load.wait_for(100).unwrap());
    let mut replaced = Vec::new();
    for _ in 0..2 {
        for node in cluster.nodes() {
            go_on();
            replaced.push(cluster.replace_agent(&node).unwrap());
            cluster.settle().unwrap();
        }
    }
    go_on();
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
    for load in loads {
        load.stop().unwrap().assert_flawless();
    }
    for (target, sender) in targets.iter().zip(senders) {
        let account = sender.stop().unwrap();
        assert_eq!(account.by_task().len(), 1, "{target}: {:?}", account.by_task());
        let silence = account.longest_silence();
        assert!(
            silence < Duration::from_secs(1),
            "{target}: silent for {silence:?}"
        );
    }
    drop(idle);
    all_end(&replaced);
}

fn all_end(replaced: &[Process]) {
    for agent in replaced {
        agent.wait_gone(ENDS).unwrap();
    }
}

/// Live flows of all nodes, as their agents have them.
fn flows(cluster: &Cluster) -> u64 {
    let of = |node: &String| -> u64 {
        let status = cluster.portico_json(node, &["status"]).unwrap();
        let planes = status["planes"].as_array().unwrap();
        let flows = planes
            .iter()
            .map(|plane| &plane["report"]["flows"]["established"]);
        flows.map(|flows| flows.as_u64().unwrap()).sum()
    };
    cluster.nodes().iter().map(of).sum()
}

#[test]
fn connections_of_an_agent_that_was_replaced_are_counted_until_they_end() {
    let Some(mut cluster) = testing::web("counted", 3).stage() else {
        return;
    };
    let mut idle = Idle::open(&cluster.client(), &cluster.ports(8080), 30).unwrap();
    let count = |cluster: &Cluster, wanted: u64| {
        let counted = format!("{wanted} connections are counted");
        wait::until(&counted, Duration::from_secs(60), || flows(cluster) == wanted).unwrap();
    };
    count(&cluster, 30);
    let nodes = cluster.nodes();
    let replaced: Vec<Process> = nodes
        .iter()
        .chain(&nodes)
        .map(|node| cluster.replace_agent(node).unwrap())
        .collect();
    cluster.settle().unwrap();
    count(&cluster, 30);
    // A task that is gone takes its connections with it, whichever agent has them.
    let stays = |task: &str| task != "web.3";
    cluster.stop_task("web.3").unwrap();
    idle.retain(stays);
    count(&cluster, idle.len() as u64);
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
    drop(idle);
    count(&cluster, 0);
    all_end(&replaced);
}

/// It says that it was told to do so, starts its own program again and is replaced by that.
#[test]
fn an_agent_that_is_told_to_reload_starts_its_successor() {
    let Some(mut cluster) = testing::web("reload", 3).stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    let load = Plan::new_connections(&targets, 200.0).start(&cluster.client());
    let mut idle = Idle::open(&cluster.client(), &targets, 12).unwrap();
    for node in cluster.nodes() {
        load.wait_for(100).unwrap();
        cluster.reload_agent(&node).unwrap();
        cluster.settle().unwrap();
    }
    load.wait_for(100).unwrap();
    load.stop().unwrap().assert_flawless();
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}

/// Killed before it says that it has everything, a successor has changed nothing; after that, and before it serves, the next
/// one is its heir.
#[test]
fn successors_that_are_killed_before_they_serve_lose_no_client() {
    let Some(mut cluster) = testing::web("killed", 3).stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    let mut idle = Idle::open(&cluster.client(), &targets, 12).unwrap();
    let mut killed = 0;
    for milliseconds in [0, 1, 2, 5, 10, 15, 20, 30, 40, 60, 80] {
        load.wait_for(20).unwrap();
        let lives = cluster.lives("node2");
        cluster.start_agent("node2").unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let victim = cluster.state.nodes["node2"].agent.unwrap();
        // What it has accepted is its own: it dies before that, or not at all.
        victim.signal(Signal::SIGSTOP).unwrap();
        if cluster.lives("node2") == lives {
            victim.kill().unwrap();
            killed += 1;
        } else {
            victim.signal(Signal::SIGCONT).unwrap();
        }
        cluster.replace_agent("node2").unwrap();
    }
    assert!(killed > 2, "{killed} were killed");
    cluster.settle().unwrap();
    load.wait_for(100).unwrap();
    load.stop().unwrap().assert_flawless();
    idle.prove().unwrap_or_else(|dead| panic!("{dead:#?}"));
}

#[test]
fn connections_of_a_replaced_agent_are_reset_and_counted_when_their_time_is_over() {
    let Some(mut cluster) = testing::web("overdue", 3)
        .mode("proxy")
        .configuration("[proxy]\nhandover = \"1s\"")
        .stage()
    else {
        return;
    };
    let own: Vec<_> = cluster.state.nodes["node1"].address(0).both().into();
    let mut targets = cluster.ports(8080);
    targets.retain(|target| own.contains(&target.ip()));
    let mut idle = Idle::open(&cluster.client(), &targets, 12).unwrap();
    let replaced = cluster.replace_agent("node1").unwrap();
    replaced.wait_gone(Duration::from_secs(10)).unwrap();
    assert_eq!(idle.prove().unwrap_err().len(), 12);
    let counted = || {
        let status = cluster.portico_json("node1", &["status"]).unwrap();
        let ended = status["planes"][0]["report"]["proxy"]["ended"]
            .as_array()
            .unwrap();
        let mut replaced = ended.iter().filter(|ended| ended["cause"] == "replaced");
        replaced.next().and_then(|ended| ended["connections"].as_u64()) == Some(12)
    };
    wait::until("they are counted", Duration::from_secs(10), counted).unwrap();
}

/// It has given everything away, and a request keeps it from letting go when it is told to end: so it ends then, with all that it
/// has, and its successor serves.
#[test]
fn an_agent_that_is_told_to_end_in_the_middle_of_a_hand_over_ends() {
    let Some(mut cluster) = testing::web("midway", 3).mode("proxy").stage() else {
        return;
    };
    let targets = cluster.ports(8080);
    let mut idle = Idle::open(&cluster.client(), &targets, 12).unwrap();
    let lives = cluster.lives("node1");
    let old = cluster.state.nodes["node1"].agent.unwrap();
    let control = cluster.state.node_directory("node1").join("portico.sock");
    let mut request = UnixStream::connect(control).unwrap();
    request.write_all(b"GET /").unwrap();
    cluster.start_agent("node1").unwrap();
    wait::until("it has given everything away", Duration::from_secs(20), || {
        let log = std::fs::read_to_string(cluster.agent_log("node1")).unwrap();
        log.contains("another agent takes over")
    })
    .unwrap();
    assert!(old.is_alive() && cluster.lives("node1") == lives);
    old.signal(Signal::SIGTERM).unwrap();
    // Not only after as long as other nodes may ask it, nor when its last connection ends.
    old.wait_gone(Duration::from_secs(8)).unwrap();
    wait::until("its successor serves", Duration::from_secs(20), || {
        cluster.lives("node1") > lives
    })
    .unwrap();
    cluster.settle().unwrap();
    assert!(!idle.prove().unwrap_err().is_empty());
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    load.wait_for(100).unwrap();
    load.stop().unwrap().assert_flawless();
}

/// Stopped and started again, as `systemctl restart` does it: clients that come meanwhile wait in the sockets that systemd has.
#[test]
fn an_agent_that_is_stopped_leaves_its_sockets_open_with_systemd() {
    let Some(mut cluster) = testing::web("stored", 3).mode("proxy").stage() else {
        return;
    };
    let systemd = Systemd::start(&cluster.state.directory().join("notify.sock"));
    let targets = cluster.ports(8080);
    let load = Plan::new_connections(&targets, 100.0).start(&cluster.client());
    for life in 0..3 {
        load.wait_for(50).unwrap();
        if life == 0 {
            // The first one of systemd's.
            cluster
                .start_agent_by("node2", &["env", &systemd.environment()])
                .unwrap();
        } else {
            cluster.stop_agent("node2").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let (shell, _sockets) = systemd.shell();
            cluster
                .start_agent_by("node2", &["bash", "-c", &shell, "portico"])
                .unwrap();
        }
        cluster.wait_agents().unwrap();
        cluster.settle().unwrap();
        let wanted = ["0.0.0.0;8080/tcp", "[;;];8080/udp", "0.0.0.0;7950/tcp"];
        let is_kept = || wanted.iter().all(|name| systemd.names().contains(*name));
        wait::until("systemd keeps the sockets", Duration::from_secs(10), is_kept).unwrap();
    }
    load.wait_for(50).unwrap();
    load.stop().unwrap().assert_flawless();
    // What is no longer published is not kept.
    cluster.set_service("web", netns::Service::new(&["8081:80"]));
    cluster.publish().unwrap();
    let is_followed = || {
        let names = systemd.names();
        names.contains("0.0.0.0;8081/tcp") && !names.iter().any(|name| name.contains(";8080/"))
    };
    wait::until("systemd forgets them", Duration::from_secs(10), is_followed).unwrap();
}
