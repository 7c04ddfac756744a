//! Podman's compatible socket (Debian's Podman 4.3).

use std::collections::BTreeSet;
use std::time::Duration;

use netns::process::Process;
use netns::{cgroup, engine, testing, tool, wait};

use crate::shop::{self, NODE, PATIENCE};

/// What Podman would leave on the machine goes to mounts of its own: names of namespaces, leases of addresses.
const SCRIPT: &str = r#"
for directory in /run/netns /run/containers /var/lib/cni /var/lib/containers; do
    mkdir -p $directory && mount -t tmpfs portico-lab $directory
done
exec podman --root "$0/root" --runroot "$0/runroot" --tmpdir "$0/tmp" --cgroup-manager cgroupfs --runtime runc \
    --events-backend file system service --time 0 "unix://$1"
"#;

#[test]
fn containers_of_podman_are_served() {
    let test = "containers_of_podman_are_served";
    if !testing::engines(test, &[testing::DOCKER, &["podman"]].concat()) {
        return;
    }
    let Some(_turn) = testing::turn(test) else { return };
    let builder = testing::cluster("podman").nodes(1).engines().without_agents();
    let mut cluster = builder.build().unwrap();
    cluster.stop_engine(NODE).unwrap();
    // The directory of what it runs has a name of 50 bytes at most.
    let (socket, directory) = (cluster.engine_socket(NODE), cluster.state.directory().join("p"));
    let mut command = cluster.command(NODE, "sh").unwrap();
    command.args(["-c", SCRIPT]).args([&directory, &socket]);
    Process::start(&mut command, &cluster.engine_log(NODE)).unwrap();
    wait::until("Podman answers", PATIENCE, || {
        cluster.docker(NODE, &["version"]).is_ok()
    })
    .unwrap();
    cluster.import_image_without_health(NODE).unwrap();
    cluster.state.mode = Some("auto".into());
    cluster.start_agent(NODE).unwrap();
    cluster.wait_agents().unwrap();

    let parent = cgroup::name(&cluster.state.prefix, NODE);
    let run = |name: &str| {
        // It would raise limits, which takes a right that not every machine gives.
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=4096:4096",
            "--no-healthcheck",
        ];
        let labels = [
            "--label",
            "portico.service=web",
            "--label",
            "portico.ports=8080:80",
        ];
        let options = ["run", "--detach", "--name", name, "--cgroup-parent", &parent];
        cluster
            .docker(
                NODE,
                &[&options[..], &limits, &labels, &[engine::IMAGE, "--polite"]].concat(),
            )
            .unwrap();
        cluster.hostname(NODE, name).unwrap()
    };
    let both = BTreeSet::from([run("web1"), run("web2")]);
    shop::wait_served(&cluster, "web", 2);
    let target = shop::published(&cluster, 8080);
    assert_eq!(shop::answers(&cluster, target, 60), both);
    cluster.docker(NODE, &["stop", "web1"]).unwrap();
    shop::wait_served(&cluster, "web", 1);
    assert_eq!(shop::answers(&cluster, target, 20).len(), 1);
    cluster.docker(NODE, &["kill", "web2"]).unwrap();
    wait::until("nobody is left", Duration::from_secs(20), || {
        shop::states(&cluster, "web").is_ok_and(|states| states.is_empty())
    })
    .unwrap();
    tool::run(cluster.docker_command(NODE).args(["rm", "web1", "web2"])).unwrap();
}
