//! What an agent cannot do or does not understand: one clear message each, and the rest goes on.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use netns::engine::IMAGE;
use nix::sys::signal::Signal;

use crate::restarts::wait_error;
use crate::shop::{self, NODE, Shop, WEB};

/// An engine that wants newer clients than there are, as Docker 29 does with old ones. It serves for as long as the test
/// runs.
fn picky(socket: &std::path::Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let message = r#"{"message":"client version 1.52 is too old. Minimum supported API version is 1.99, please upgrade your client to a newer version"}"#;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (status, body) = if request.contains("/version") {
                (
                    "200 OK",
                    r#"{"Version":"99.0.0","ApiVersion":"1.120","MinAPIVersion":"1.99","Os":"linux","Arch":"amd64"}"#,
                )
            } else {
                ("400 Bad Request", message)
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nApi-Version: 1.120\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
}

#[test]
fn each_refusal_is_said_once_and_clearly_and_the_rest_goes_on() {
    let Some(cluster) = shop::machine("refuse").stage() else {
        return;
    };
    let mut shop = Shop::open(cluster, 2);
    let target = shop.published();
    let all = shop.replicas().into_values().collect();

    // Labels that cannot be understood.
    let run = ["run", "--detach", "--name"];
    let start = |name: &str, ports: &str, label: &str| {
        shop.docker(&[&run[..], &[name, "--label", ports, "--label", label, IMAGE]].concat())
    };
    start("misspelt", "portico.ports=8085:80", "portico.alogrithm=hash");
    start("beyond", "portico.ports=8086:80", "portico.weight=heavy");
    shop::wait_served(&shop.cluster, "misspelt", 1);
    let notes = netns::wait::until_some("both are said", shop::PATIENCE, || {
        let said = shop.cluster.portico(NODE, &["status"])?;
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let of = |word: &str| {
            lines
                .iter()
                .filter(|line| line.contains(word))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (misspelt, beyond) = (of("portico.alogrithm"), of("heavy"));
        anyhow::ensure!(!misspelt.is_empty() && !beyond.is_empty(), "it says only {said}");
        Ok(Some((misspelt, beyond, said)))
    });
    let ((misspelt, beyond, said), _) = notes.unwrap();
    println!("{said}");
    assert_eq!(
        (misspelt.len(), beyond.len()),
        (1, 1),
        "each is said once: {said}"
    );
    assert!(misspelt[0].contains("misspelt"), "{said}");
    assert!(
        said.contains("portico.algorithm"),
        "the nearest label is named: {said}"
    );
    assert!(
        beyond[0].contains("beyond") && beyond[0].contains("portico.weight"),
        "{said}"
    );
    assert_eq!(shop.answers(60), all);
    for name in ["misspelt", "beyond"] {
        shop.docker(&["rm", "--force", name]);
        shop::wait_states(&shop.cluster, name, |states| states.is_empty());
    }

    // A socket that the agent may not use: the root of this agent is not above permissions.
    let cluster = &mut shop.cluster;
    let socket = cluster.engine_socket(NODE);
    // Told to end it keeps what it served last; killed it may keep what was a second before.
    let agent = cluster.state.nodes[NODE].agent.unwrap();
    agent.signal(Signal::SIGTERM).unwrap();
    agent.wait_gone(shop::PATIENCE).unwrap();
    cluster.kill_agent(NODE).unwrap();
    let owner = std::fs::metadata(&socket).unwrap();
    std::os::unix::fs::chown(&socket, Some(65534), Some(65534)).unwrap();
    let without = "--bounding-set=-dac_override,-dac_read_search";
    cluster.start_agent_by(NODE, &["setpriv", without]).unwrap();
    cluster.wait_agents().unwrap();
    wait_error(cluster, Some("permission denied"));
    refused(cluster, "permission denied");
    shop::wait_served(cluster, WEB, 2);
    assert_eq!(shop::answers(cluster, target, 60), all);
    use std::os::unix::fs::MetadataExt;
    std::os::unix::fs::chown(&socket, Some(owner.uid()), Some(owner.gid())).unwrap();
    wait_error(cluster, None);

    // An engine that speaks another version.
    let strange = cluster.engine_directory(NODE).join("strange.sock");
    picky(&strange);
    cluster.kill_agent(NODE).unwrap();
    cluster.state.configuration = format!("[sources.docker]\nsocket = {strange:?}\n");
    cluster.start_agent(NODE).unwrap();
    cluster.wait_agents().unwrap();
    wait_error(cluster, Some("1.99"));
    refused(cluster, "1.99");
    shop::wait_served(cluster, WEB, 2);
    assert_eq!(shop::answers(cluster, target, 60), all);
}

/// The status says it once, and what to do.
fn refused(cluster: &netns::Cluster, words: &str) {
    let said = cluster.portico(NODE, &["status"]).unwrap();
    println!("{said}");
    assert_eq!(said.matches(words).count(), 1, "{said}");
    assert!(said.contains("fix: "), "{said}");
}
