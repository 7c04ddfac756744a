//! `cargo xtask test`: everything that must hold, in the order of what fails fastest.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::fixed::{self, Profile};
use crate::lab;
use crate::run::{binaries, cargo, command, line, run};
use crate::setup::{Talk, engines, setup};

/// A part of the tests that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The formatting.
    Fmt,
    /// The lints.
    Clippy,
    /// The documentation and its links.
    Doc,
    /// Unit and property tests, and the loaded packet programs.
    Unit,
    /// Real traffic through the virtual cluster.
    Netns,
    /// Some of these tests again, with agents that have no packet programs, where the proxy carries everything, and with one such
    /// node among others.
    Proxy,
    /// The lab's guided run, as `cargo xtask lab` has it: every claim must hold.
    Lab,
    /// Real container engines on the nodes of the virtual cluster.
    Docker,
}

/// Tests of real traffic that hold whoever carries it. Not among them are
/// - those of what sockets cannot do: a connection lives on one node, so that it does not outlive an agent that is killed, nor goes
///   on by another node; and the kernel answers the client's packets that have no connection;
/// - those of packet programs themselves: what they attach to, their tables, tunnels and verdicts, and addresses that they keep unasked;
/// - those that choose a mode themselves, as all of `many`, `check` and `transparent` do;
/// - those of the name server, which does not know who carries;
/// - for the time they take, most of `rolling`: with one replica there is nobody else, and with three views lag furthest.
const PROXIED: &[&str] = &[
    "change::a_node_that_is_cut_off",
    "change::an_operators_drain",
    "change::draining_a_node",
    "change::new_connections_avoid",
    "change::scaling",
    "health::a_service_whose",
    "health::a_sick_backend",
    "health::a_task_that_hangs",
    "health::a_task_that_is_killed",
    "idle::a_connection_outlives",
    "idle::silent_connections_survive_scaling_to",
    "mesh::a_vip_answers",
    "mesh::every_node",
    "mesh::two_services",
    "names::requests_by_name",
    "names::scaling",
    "reset::a_client_whose_task",
    "reset::a_service_without_tasks",
    "restarts::an_agent_that_is_told_to_reload",
    "restarts::connections_of_an_agent_that_was",
    "restarts::replacing_every",
    "restarts::successors",
    "rolling::one_replica_rolls_without",
    "rolling::three_replicas_roll_while",
    "torture::a_half_closed",
    "udp::a_flow_stays",
    "udp::a_sender_whose_task",
    "udp::flows_of_a_draining_task",
];

/// Sets up and runs the parts given, or all of them; stops at the first failure, and says how long each step took.
pub fn test(parts: &[Part], arguments: &[String]) -> Result<()> {
    let parts = if parts.is_empty() {
        Part::value_variants()
    } else {
        parts
    };
    let start = Instant::now();
    setup(Talk::OnlyOfChanges)?;
    let mut steps: Vec<(Part, Command)> = Vec::new();
    for (number, &part) in parts.iter().enumerate() {
        let commands = part.commands(arguments, &parts[..number])?;
        steps.extend(commands.into_iter().map(|step| (part, step)));
    }
    if parts.contains(&Part::Docker) {
        engines()?;
    }
    let count = steps.len();
    let mut done = Vec::new();
    for (number, (part, mut step)) in steps.into_iter().enumerate() {
        let words = line(&step);
        println!("\n==> {} of {count}: {words}", number + 1);
        let began = Instant::now();
        let outcome = run(&mut step);
        done.push((began.elapsed(), words));
        if let Err(error) = outcome {
            println!(
                "\n{}",
                summary(&done, start.elapsed(), "the last of these failed")
            );
            let name = part.name();
            return Err(error.context(format!(
                "{name} failed; run this part alone: cargo xtask test {name}"
            )));
        }
    }
    println!("\n{}", summary(&done, start.elapsed(), "all passed"));
    Ok(())
}

/// A line for each step, and one for all.
fn summary(done: &[(Duration, String)], all: Duration, outcome: &str) -> String {
    let lines = done
        .iter()
        .map(|(time, words)| format!("{:>12}  {words}\n", seconds(*time)));
    format!("{}{:>12}  {outcome}", lines.collect::<String>(), seconds(all))
}

impl Part {
    /// Commands for this part after those `before` it. All that is built for tests is built for the whole workspace: what a
    /// dependency can do depends on who asks for it, and with other packages selected it is another one and built again.
    fn commands(self, arguments: &[String], before: &[Self]) -> Result<Vec<Command>> {
        // The agents of the virtual cluster are the binary that the tests of its package leave, or `cargo build`.
        let agent = (!before.contains(&Self::Unit)).then(|| cargo(&["build", "--package", "lb-userspace"]));
        let tests = |what: &[&str]| {
            let mut command = cargo(&[&["test", "--workspace"], what].concat());
            if !arguments.is_empty() {
                command.arg("--").args(arguments);
            }
            command
        };
        Ok(match self {
            Self::Fmt => vec![cargo(&["fmt", "--all", "--check"])],
            Self::Clippy => {
                let deny = ["--", "-D", "warnings"];
                // Not all targets are among "all targets": these are no part of `cargo test`.
                let all = [
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--test",
                    "traffic",
                    "--test",
                    "docker",
                ];
                let package = [
                    "clippy",
                    "-p",
                    "lb-userspace",
                    "--no-default-features",
                    "--all-targets",
                ];
                let bare = [&package[..], &deny].concat();
                vec![cargo(&[&all[..], &deny].concat()), cargo(&bare)]
            }
            Self::Doc => {
                let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
                doc.env("RUSTDOCFLAGS", "-D warnings");
                vec![doc]
            }
            Self::Unit => vec![tests(&[])],
            Self::Netns => {
                let tests = tests(&["--test", "traffic"]);
                agent.into_iter().chain([tests]).collect()
            }
            Self::Proxy => {
                let traffic = ["test", "--workspace", "--test", "traffic", "--"];
                let tests = ["proxy", "mixed"].map(|mode| {
                    let mut tests = cargo(&[&traffic[..], PROXIED].concat());
                    tests.env("PORTICO_MODE", mode);
                    tests
                });
                let agent = agent.filter(|_| !before.contains(&Self::Netns));
                agent.into_iter().chain(tests).collect()
            }
            Self::Lab => {
                // A prefix of its own: a lab that somebody has brought up stays.
                let guided = ["--prefix", "portico-guided"];
                let run = command(&binaries("debug")?.join("portico-lab").to_string_lossy(), &guided);
                let build = (!before.contains(&Self::Netns)).then(lab::build);
                build.into_iter().chain([run]).collect()
            }
            Self::Docker => {
                // Containers have nothing but the program itself.
                let task = fixed::builder(&fixed::host()?, &[("netns", "portico-task")], Profile::Dev);
                let image = cargo(&["xtask", "dist", "image", "--profile", "dev"]);
                let tests = tests(&["--test", "docker"]);
                [task, image].into_iter().chain(agent).chain([tests]).collect()
            }
        })
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_summary_names_every_step_and_its_time() {
        let done = [
            (Duration::from_secs(2), "cargo fmt".to_owned()),
            (Duration::from_secs(90), "cargo clippy".to_owned()),
        ];
        let expected = "       2.0 s  cargo fmt\n  1 min 30 s  cargo clippy\n  1 min 32 s  all passed";
        assert_eq!(summary(&done, Duration::from_secs(92), "all passed"), expected);
    }

    fn lines(part: Part, before: &[Part]) -> Vec<String> {
        part.commands(&[], before).unwrap().iter().map(line).collect()
    }

    #[test]
    fn the_agent_is_built_once() {
        let tests = "cargo test --workspace --test traffic";
        assert_eq!(lines(Part::Netns, &[Part::Unit]), [tests]);
        assert_eq!(
            lines(Part::Netns, &[]),
            ["cargo build --package lb-userspace", tests]
        );
        assert_eq!(lines(Part::Lab, &[Part::Unit, Part::Netns]).len(), 1);
        assert_eq!(lines(Part::Lab, &[]).len(), 2);
    }

    #[test]
    fn each_test_that_runs_again_is_there_once() {
        let traffic = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/netns/tests/traffic");
        for filter in PROXIED {
            let (module, beginning) = filter.split_once("::").unwrap();
            let source = fs::read_to_string(traffic.join(module).with_extension("rs")).unwrap();
            let found = source.matches(&format!("#[test]\nfn {beginning}")).count();
            assert_eq!(found, 1, "{filter}");
        }
    }

    #[test]
    fn times_are_given_in_minutes_and_seconds() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
