//! Agents and engines that end and come back: traffic goes on, and what changed meanwhile is seen.

use std::time::{Duration, Instant};

use netns::client::load::Plan;
use netns::engine::IMAGE;
use netns::{Cluster, tool, wait};
use serde_json::{Value, json};

use crate::asker::Asker;
use crate::shop::{self, NODE, PATIENCE, Shop, WEB};

/// As long as the socket is gone.
const MINUTE: Duration = Duration::from_secs(60);

/// Waits until the status has an error of the engine that contains these words, or none.
pub fn wait_error(cluster: &Cluster, words: Option<&str>) {
    let ask = || -> anyhow::Result<_> {
        let error = error(cluster)?;
        let fits = match (&error, words) {
            (None, None) => true,
            (Some(error), Some(words)) => error.contains(words),
            _ => false,
        };
        anyhow::ensure!(fits, "it says {error:?}");
        Ok(Some(()))
    };
    let what = format!("the status says {words:?} of the engine");
    wait::until_some(&what, PATIENCE, ask).unwrap();
}

/// What the status says of the engine, if anything is wrong.
fn error(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    let status = cluster.portico_json(NODE, &["status"])?;
    let sources = status["sources"].as_array().cloned().unwrap_or_default();
    let docker = sources.iter().find(|source| source["name"] == "docker");
    let docker = docker.ok_or_else(|| anyhow::anyhow!("no such source: {status}"))?;
    Ok(match &docker["error"] {
        Value::Null => None,
        Value::String(words) => Some(words.clone()),
        other => Some(other.to_string()),
    })
}

#[test]
fn traffic_goes_on_while_agent_and_engine_restart_and_without_a_socket() {
    let Some(cluster) = shop::machine("restart").engine("live-restore", true).stage() else {
        return;
    };
    let mut shop = Shop::open(cluster, 3);
    let outside = Plan::new_connections(&[shop.published()], 40.0).start(&shop.cluster.client());
    let kept = Plan::keep_alive(&[shop.published()], 20.0).start(&shop.cluster.client());
    let inside = Asker::in_container(&shop.cluster, NODE, "asker", "shop_default", "http://web/", 20);
    let go_on = || {
        outside.wait_for(40).unwrap();
        inside.wait_for(15);
    };
    go_on();

    // Names are asked of the agent itself: the container's requests begin again with it.
    let cluster = &mut shop.cluster;
    let inside_report = inside.stop(cluster);
    inside_report.assert_flawless();
    cluster.kill_agent(NODE).unwrap();
    outside.wait_for(60).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_agents().unwrap();
    shop::wait_served(cluster, WEB, 3);
    let inside = Asker::in_container(cluster, NODE, "asker", "shop_default", "http://web/", 20);
    let go_on = || {
        outside.wait_for(40).unwrap();
        inside.wait_for(15);
    };
    go_on();

    cluster.kill_engine(NODE).unwrap();
    wait_error(cluster, Some("engine"));
    go_on();
    cluster.start_engine(NODE).unwrap();
    wait_error(cluster, None);
    shop::wait_served(cluster, WEB, 3);
    go_on();

    // Who asks in a container could not be told to stop without the engine.
    inside.stop(cluster).assert_flawless();

    // The engine is elsewhere for a minute, where people still tell it things.
    let away = cluster.engine_directory(NODE).join("away.sock");
    let away = format!("unix://{}", away.display());
    cluster.stop_engine(NODE).unwrap();
    cluster.configure_engines("hosts", json!([&away]));
    cluster.launch_engine(NODE).unwrap();
    let gone = Instant::now();
    let docker = |cluster: &Cluster, arguments: &[&str]| {
        tool::run(
            cluster
                .docker_command(NODE)
                .env("DOCKER_HOST", &away)
                .args(arguments),
        )
    };
    wait::until("the engine answers elsewhere", PATIENCE, || {
        docker(cluster, &["info"]).is_ok()
    })
    .unwrap();
    wait_error(cluster, Some("engine"));
    let compose = |key: &str, value: &str| format!("--label=com.docker.compose.{key}={value}");
    let labels = [
        compose("project", "shop"),
        compose("service", "web"),
        compose("container-number", "4"),
    ];
    let mut run = vec![
        "run",
        "--detach",
        "--name",
        "shop_web_4",
        "--network",
        "shop_default",
        "--label",
        "portico.ports=8080:80",
    ];
    run.extend(labels.iter().map(String::as_str));
    run.push(IMAGE);
    docker(cluster, &run).unwrap();
    outside.wait_for(60).unwrap();
    let fourth = tool::run(cluster.docker_command(NODE).env("DOCKER_HOST", &away).args([
        "inspect",
        "-f",
        "{{.Config.Hostname}}",
        "shop_web_4",
    ]))
    .unwrap();
    // An agent that starts without an engine goes on where the last one was.
    cluster.kill_agent(NODE).unwrap();
    cluster.start_agent(NODE).unwrap();
    cluster.wait_agents().unwrap();
    shop::wait_served(cluster, WEB, 3);
    wait_error(cluster, Some("engine"));
    let inside = Asker::on_node(cluster, NODE, "http://web.shop/", 20);
    let go_on = || {
        outside.wait_for(40).unwrap();
        inside.wait_for(15);
    };
    go_on();
    std::thread::sleep(MINUTE.saturating_sub(gone.elapsed()));
    go_on();
    cluster.stop_engine(NODE).unwrap();
    cluster.configure_engines("hosts", Value::Null);
    cluster.start_engine(NODE).unwrap();
    let back = Instant::now();
    shop::wait_served(cluster, WEB, 4);
    println!(
        "what was started meanwhile was served {:?} after the socket was back",
        back.elapsed()
    );
    wait_error(cluster, None);
    go_on();

    let reports = [
        outside.stop().unwrap(),
        kept.stop().unwrap(),
        inside.stop(cluster),
    ];
    for report in &reports {
        println!(
            "{} requests, the slowest took {:?}",
            report.requests(),
            report.slowest
        );
        report.assert_flawless();
    }
    assert!(reports[0].of_task(fourth.trim()) > 0, "the fourth serves");
}

#[test]
fn an_engine_that_takes_its_containers_along_is_followed() {
    let Some(cluster) = shop::machine("along").stage() else {
        return;
    };
    let mut shop = Shop::open(cluster, 2);
    let target = shop.published();
    let all = shop.replicas().into_values().collect();
    let cluster = &mut shop.cluster;
    cluster.stop_engine(NODE).unwrap();
    wait_error(cluster, Some("engine"));
    cluster.start_engine(NODE).unwrap();
    shop::wait_served(cluster, WEB, 2);
    wait_error(cluster, None);
    assert_eq!(shop::answers(cluster, target, 60), all);

    // Killed, it leaves them running, and ends them when it is back, only to start them again.
    cluster.kill_engine(NODE).unwrap();
    wait_error(cluster, Some("engine"));
    assert_eq!(shop::answers(cluster, target, 60), all);
    cluster.start_engine(NODE).unwrap();
    shop::wait_answers(cluster, target, |answers| *answers == all);
    shop::wait_served(cluster, WEB, 2);
    assert_eq!(shop::answers(cluster, target, 60), all);
}
