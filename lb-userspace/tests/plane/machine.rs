//! A machine of one node in a network namespace, its bpf file system, and snapshots for it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aya::maps::{Array, HashMap, Map, MapData};
use lb_common::Plain;
use lb_common::key::FlowKey;
use lb_common::table::{Flow, Pool};
use lb_userspace::config::Config;
use lb_userspace::model::compose::{Composer, Event};
use lb_userspace::model::{Drains, Identity, Snapshot};
use lb_userspace::plane::{EbpfPlane, Problem};
use lb_userspace::source::file;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Seen by the test's own thread and its children only: their mount namespace has another bpffs here than all others.
const PINS: &str = "/tmp/portico-test-plane";

/// The maps of one test at a time are enough memory.
static TURN: Mutex<()> = Mutex::new(());

/// A [`Plain`] type for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for; the wrapper is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

pub struct Machine {
    runtime: tokio::runtime::Runtime,
}

/// Runs a test in namespaces of its own.
pub fn run(test: &str, body: impl FnOnce(Machine) + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI has it");
        eprintln!("{test} SKIPPED: it loads programs and needs root");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            fs::create_dir_all(PINS).unwrap();
            mount(Some("bpf"), PINS, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
            // Threads of the runtime are made by this one, and so are in its namespaces.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            body(Machine { runtime });
        });
        if let Err(panic) = ran.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A services file of this many services with this many backends each, every other one on this node.
pub fn services(count: u32, backends: u32) -> String {
    let mut text = String::from("nodes: { here: 192.0.2.1, there: 192.0.2.2 }\nservices:\n");
    for service in 0..count {
        let _ = writeln!(
            text,
            "  s{service}:\n    ports: [\"{}:80/tcp\"]\n    backends:",
            8080 + service
        );
        for backend in 0..backends {
            let node = if backend % 2 == 0 { "here" } else { "there" };
            let address = backend + 2;
            let _ = writeln!(
                text,
                "      - {{ node: {node}, address: 172.18.0.{address}, task: t{backend} }}"
            );
        }
        if backends == 0 {
            text.truncate(text.len() - "backends:\n".len());
            text.push_str("backends: []\n");
        }
    }
    text
}

impl Machine {
    /// The first snapshot of an agent that reads this file.
    pub fn snapshot(&self, text: &str) -> Arc<Snapshot> {
        let desired = file::parse(Path::new("services.yaml"), text).unwrap();
        let mut composer = Composer::new(Identity::new([0; 32]), ["file".into()], Drains::default());
        composer.absorb(Event::Source {
            source: "file".into(),
            desired: Arc::new(desired),
        });
        Arc::new(composer.compose(Instant::now()).unwrap())
    }

    /// Starts a plane, with more lines of configuration.
    pub fn start(&self, lines: &str) -> EbpfPlane {
        // What is not in a table comes before those that are.
        let (first, rest) = match lines.starts_with('[') {
            true => ("", lines),
            false => (lines, ""),
        };
        let text = format!(
            "node = \"here\"\n{first}[paths]\npins = \"{PINS}\"\nruntime = \"{PINS}-run\"\n[cgroup]\nattach = false\n{rest}"
        );
        let config = Config::parse(Path::new("portico.toml"), &text).unwrap();
        self.runtime.block_on(EbpfPlane::start(&config)).unwrap()
    }

    /// Sets a device up.
    pub fn ip(&self, words: &str) {
        let status = std::process::Command::new("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "ip {words}");
    }

    /// The pools in the kernel, with their numbers.
    pub fn pools(&self) -> Vec<(u32, Pool)> {
        let pools: Array<MapData, Raw<Pool>> =
            Array::try_from(Map::from_map_data(pinned("POOL")).unwrap()).unwrap();
        let numbered = pools
            .iter()
            .zip(0..)
            .map(|(pool, number)| (number, pool.unwrap().0));
        numbered.filter(|(_, pool)| pool.slots != 0).collect()
    }
}

/// A map by its pin.
pub fn pinned(name: &str) -> MapData {
    MapData::from_pin(pin(name)).unwrap()
}

pub fn pin(name: &str) -> PathBuf {
    let layout = lb_common::table::LAYOUT;
    format!("{PINS}/v{layout}/{name}").into()
}

pub fn flows() -> HashMap<MapData, Raw<FlowKey<[u8; 4]>>, Raw<Flow>> {
    HashMap::try_from(Map::from_map_data(pinned("FLOW4")).unwrap()).unwrap()
}

/// What did not fit; a machine without devices has other problems besides.
pub fn refused(plane: &EbpfPlane) -> Vec<Problem> {
    let mut problems = plane.report().problems;
    problems.retain(|problem| problem.error.starts_with("no room"));
    problems
}
