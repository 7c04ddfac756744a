//! What agents tell each other is told to nodes of the swarm alone, by its managers alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netns::process::Process;
use netns::{tool, wait};

use crate::swarm::{PATIENCE, Swarm};

/// Of the stream between agents.
const PORT: u16 = 7950;

/// A certificate and its key.
struct Papers {
    certificate: PathBuf,
    key: PathBuf,
}

impl Swarm {
    /// A file of a node's engine about who it is.
    pub fn certificate(&self, node: &str, file: &str) -> PathBuf {
        self.cluster
            .engine_directory(node)
            .join("data/swarm/certificates")
            .join(file)
    }

    fn papers(&self, node: &str) -> Papers {
        // Swarms write headers into the file, which openssl does not understand.
        let text = std::fs::read_to_string(self.certificate(node, "swarm-node.key")).unwrap();
        let plain = text
            .lines()
            .filter(|line| !line.is_empty() && !line.contains(':'));
        let plain: String = plain.map(|line| format!("{line}\n")).collect();
        Papers {
            certificate: self.certificate(node, "swarm-node.crt"),
            key: self.cluster.write_file("plain.key", &plain).unwrap(),
        }
    }
}

/// Says it is a manager of this very swarm, and has signed that itself.
fn forged(directory: &Path, subject: &str) -> Papers {
    let papers = Papers {
        certificate: directory.join("forged.crt"),
        key: directory.join("forged.key"),
    };
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]);
    command.args([
        "-days",
        "1",
        "-subj",
        subject,
        "-addext",
        "subjectAltName=DNS:swarm-manager",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    command.arg("-out").arg(&papers.certificate);
    command.arg("-keyout").arg(&papers.key);
    tool::run(&mut command).unwrap();
    papers
}

/// The name that a node's certificate has, as `openssl req` takes it, in the role of a manager.
fn as_manager(swarm: &Swarm, node: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-subject", "-nameopt", "compat", "-in"]);
    let said = tool::run(command.arg(swarm.certificate(node, "swarm-node.crt"))).unwrap();
    let name = said.trim().trim_start_matches("subject=").trim();
    assert!(name.contains("swarm-worker"), "{name}");
    name.replace("swarm-worker", "swarm-manager")
}

/// In the place of the manager's agent, which is not there, somebody else answers.
pub fn impostors_are_refused(swarm: &Swarm) {
    let subject = as_manager(swarm, "node2");
    let forged = forged(&swarm.cluster.state.directory(), &subject);
    let impostors = [
        (swarm.papers("node2"), "the certificate of a worker"),
        (forged, "signed by another authority"),
    ];
    for (papers, complaint) in impostors {
        let impostor = serve(swarm, "node1", &papers);
        for node in ["node2", "node3"] {
            swarm.wait_complaint(node, complaint);
        }
        impostor.kill().unwrap();
    }
}

fn serve(swarm: &Swarm, node: &str, papers: &Papers) -> Process {
    let address = swarm.port_of(node, PORT).to_string();
    let mut command = swarm.cluster.command(node, "openssl").unwrap();
    command.args(["s_server", "-www", "-alpn", "h2", "-accept", &address]);
    command
        .arg("-cert")
        .arg(&papers.certificate)
        .arg("-key")
        .arg(&papers.key);
    let log = swarm.cluster.state.directory().join("impostor.log");
    let _ = std::fs::remove_file(&log);
    let process = Process::start(&mut command, &log).unwrap();
    let waits = || {
        let text = std::fs::read_to_string(&log)?;
        anyhow::ensure!(process.is_alive() && text.contains("ACCEPT"), "it says {text:?}");
        Ok(Some(()))
    };
    wait::until_some("the impostor waits", PATIENCE / 3, waits).unwrap();
    process
}

/// Nobody without a certificate of the swarm gets a word; every node with one does, and sees that it talks to a manager.
pub fn strangers_are_refused(swarm: &Swarm) {
    let nobody = call(swarm, None);
    assert!(nobody.contains("alert"), "{nobody}");
    let subject = as_manager(swarm, "node2");
    let forged = call(swarm, Some(&forged(&swarm.cluster.state.directory(), &subject)));
    assert!(forged.contains("alert"), "{forged}");
    let worker = call(swarm, Some(&swarm.papers("node2")));
    assert!(
        worker.contains("Verify return code: 0 (ok)") && !worker.contains("alert"),
        "{worker}"
    );
    assert!(worker.contains("swarm-manager"), "{worker}");
}

/// What `openssl s_client` says that calls the manager's agent from a worker's node, and listens for a moment.
fn call(swarm: &Swarm, papers: Option<&Papers>) -> String {
    let address = swarm.port_of("node1", PORT).to_string();
    let mut command = swarm.cluster.command("node2", "openssl").unwrap();
    command.args([
        "s_client",
        "-alpn",
        "h2",
        "-servername",
        "swarm-manager",
        "-connect",
        &address,
    ]);
    command
        .arg("-CAfile")
        .arg(swarm.certificate("node2", "swarm-root-ca.crt"));
    if let Some(papers) = papers {
        command
            .arg("-cert")
            .arg(&papers.certificate)
            .arg("-key")
            .arg(&papers.key);
    }
    let log = swarm.cluster.state.directory().join("stranger.log");
    let _ = std::fs::remove_file(&log);
    let file = std::fs::File::create(&log).unwrap();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    wait::until("the stranger is answered", PATIENCE, || {
        let text = read();
        text.contains("alert") || text.contains("Verify return code") || text.contains("errno")
    })
    .unwrap();
    // With TLS 1.3 a client has finished before the server has seen its certificate (RFC 8446, 2).
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = child.kill();
    let _ = child.wait();
    read()
}
