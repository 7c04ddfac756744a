//! The programs, loaded without pins, and the means to put a packet in and see what comes out.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, SockHash};
use aya::programs::{SchedClassifier, SkLookup, TestRun, TestRunOptions, Xdp, XdpMode};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use lb_common::V6;
use lb_common::key::Front;
use lb_common::table::Counter;
use lb_common::{Plain, Verdict};
use lb_userspace::plane::ebpf::object::PROGRAMS;
use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;

use crate::cluster;

/// What the kernel is told to do with a packet.
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;
pub const TC_UNSPEC: u32 = u32::MAX;
pub const TC_SHOT: u32 = 2;
pub const TC_REDIRECT: u32 = 7;

/// A [`Plain`] type for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Raw<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for; the wrapper is transparent.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// The programs of one node.
pub struct Rig {
    object: Ebpf,
    /// Index of the device that packets come in by.
    pub wire: u32,
    /// What [`counted`](Self::counted) gave last.
    before: Vec<u64>,
}

/// What became of one packet.
#[derive(Clone, Debug)]
pub struct Ran {
    pub action: u32,
    pub frame: Vec<u8>,
    /// Every verdict counted, as often as it was.
    pub verdicts: Vec<Verdict>,
}

impl Ran {
    /// The one verdict that the packet met.
    #[track_caller]
    pub fn verdict(&self) -> Verdict {
        match self.verdicts[..] {
            [verdict] => verdict,
            _ => panic!("counted {:?}, not once", self.verdicts),
        }
    }

    /// The frame, sent on under `verdict`.
    #[track_caller]
    pub fn sent(self, verdict: Verdict) -> Vec<u8> {
        assert_eq!(self.verdict(), verdict);
        assert_eq!(self.action, TC_REDIRECT);
        self.frame
    }

    #[track_caller]
    pub fn dropped(self, verdict: Verdict) {
        assert_eq!(self.verdict(), verdict);
        assert_eq!(self.action, TC_SHOT);
    }
}

impl Rig {
    /// A node of the cluster of [`cluster`]; `None`, with the reason on the terminal, where programs cannot be loaded.
    pub fn new() -> Option<Self> {
        Self::with(|_| ())
    }

    /// As [`new`](Self::new), with other map sizes than the programs'.
    pub fn with(sizes: impl FnOnce(&mut EbpfLoader<'_>)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("CI").is_none(),
                "loading programs needs root, and in CI nothing is skipped"
            );
            eprintln!("SKIPPED: loading programs needs root");
            return None;
        }
        // Only this thread moves; the namespace ends with it.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let wire = cluster::devices();
        let mut loader = EbpfLoader::new();
        let (node, address) = (cluster::HERE, cluster::ADDRESS);
        let (cookie, seed) = (cluster::COOKIE, cluster::SEED);
        let knows_flag =
            KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 16, 0));
        let flag: u64 = if knows_flag { 1 << 7 } else { 0 };
        loader
            .override_global("SELF_NODE", &node, true)
            .override_global("SELF_ADDRESS", &address, true)
            .override_global("COOKIE", &cookie, true)
            .override_global("SEED", &seed, true)
            .override_global("IPV6_CSUM_FLAG", &flag, true);
        sizes(&mut loader);
        let object = loader.load(PROGRAMS).expect("the programs' maps");
        let mut rig = Self {
            object,
            wire,
            before: vec![0; Verdict::COUNT],
        };
        for name in ["uplink", "task", "answer"] {
            rig.tc(name).load().expect("a program that the verifier accepts");
        }
        cluster::fill(&mut rig);
        Some(rig)
    }

    /// A packet from the network, to the tc program.
    pub fn uplink(&mut self, frame: &[u8]) -> Ran {
        self.run_tc("uplink", frame, self.wire)
    }

    /// A packet from a task.
    pub fn task(&mut self, frame: &[u8]) -> Ran {
        self.run_tc("task", frame, cluster::task_device())
    }

    /// A packet of this node itself, which comes in by the far end of `portico0`.
    pub fn behind(&mut self, device: u32, frame: &[u8]) -> Ran {
        self.run_tc("task", frame, device)
    }

    /// A packet that this node's kernel wrote, about to leave for the network.
    pub fn leaving(&mut self, frame: &[u8]) -> Ran {
        self.run_tc("answer", frame, self.wire)
    }

    /// A packet that came in by a task's device, at the same place.
    pub fn passing(&mut self, frame: &[u8]) -> Ran {
        self.run_tc_from("answer", frame, self.wire, cluster::task_device())
    }

    /// A packet through the dry run.
    pub fn trace(&mut self, frame: &[u8]) -> Ran {
        if self.tc("trace").fd().is_err() {
            self.tc("trace")
                .load()
                .expect("a program that the verifier accepts");
        }
        self.run_tc("trace", frame, self.wire)
    }

    /// A packet from the network, to the XDP program.
    pub fn xdp(&mut self, frame: &[u8]) -> Ran {
        let program: &mut Xdp = self.object.program_mut("uplink_xdp").unwrap().try_into().unwrap();
        if program.fd().is_err() {
            program.load().expect("a program that the verifier accepts");
            // Only a device that has an XDP program can be named as the one that a packet came in by.
            program.attach("wire", XdpMode::Driver).expect("native XDP");
        }
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, frame.len() as u32, 0, self.wire, 0, 0];
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.run(frame, &context, |object, options| {
            let program: &mut Xdp = object.program_mut("uplink_xdp").unwrap().try_into().unwrap();
            program.test_run(options).expect("a test run")
        })
    }

    fn run_tc(&mut self, name: &str, frame: &[u8], device: u32) -> Ran {
        self.run_tc_from(name, frame, device, 0)
    }

    fn run_tc_from(&mut self, name: &str, frame: &[u8], device: u32, from: u32) -> Ran {
        // `struct __sk_buff`, of which only `ingress_ifindex` and `ifindex` matter.
        let mut context = [0u8; 192];
        context[36..40].copy_from_slice(&from.to_ne_bytes());
        context[40..44].copy_from_slice(&device.to_ne_bytes());
        self.run(frame, &context, |object, options| {
            let program: &mut SchedClassifier = object.program_mut(name).unwrap().try_into().unwrap();
            program.test_run(options).expect("a test run")
        })
    }

    fn run(
        &mut self,
        frame: &[u8],
        context: &[u8],
        run: impl FnOnce(&mut Ebpf, TestRunOptions<'_>) -> aya::TestRunResult,
    ) -> Ran {
        let mut out = vec![0; 4096];
        let result = run(
            &mut self.object,
            TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(context),
                ..TestRunOptions::default()
            },
        );
        out.truncate(result.data_size_out as usize);
        let mut verdicts = Vec::new();
        let counted = self.counted();
        for ((verdict, before), after) in Verdict::ALL.iter().zip(&self.before).zip(&counted) {
            verdicts.extend((*before..*after).map(|_| *verdict));
        }
        self.before = counted;
        Ran {
            action: result.return_value,
            frame: out,
            verdicts,
        }
    }

    /// Attaches the program at sockets of those who come in.
    pub fn look_up(&mut self) {
        let program: &mut SkLookup = self.object.program_mut("lookup").unwrap().try_into().unwrap();
        program.load().expect("a program that the verifier accepts");
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        program.attach(namespace).expect("a network namespace");
    }

    /// What comes in to the frontend is this socket's.
    pub fn take_port(&mut self, front: Front<V6>, socket: &TcpListener) {
        let cookie = SockRef::from(socket).cookie().unwrap();
        let map = self.object.map_mut("LISTENER").unwrap();
        let mut listeners: SockHash<&mut MapData, u64> = SockHash::try_from(map).unwrap();
        listeners.insert(cookie, socket.as_raw_fd(), 0).unwrap();
        self.put("TAKEN", front, cookie);
    }

    /// Packets counted so far, by verdict.
    pub fn counted(&self) -> Vec<u64> {
        let map: PerCpuArray<&MapData, Raw<Counter>> =
            PerCpuArray::try_from(self.object.map("COUNTER").unwrap()).unwrap();
        let packets = |verdict: &Verdict| -> u64 {
            let counters = map.get(&(*verdict as u32), 0).unwrap();
            counters.iter().map(|Raw(counter)| counter.packets).sum()
        };
        Verdict::ALL.iter().map(packets).collect()
    }

    fn tc(&mut self, name: &str) -> &mut SchedClassifier {
        self.object.program_mut(name).unwrap().try_into().unwrap()
    }

    /// Writes an entry of an array.
    pub fn set<V: Plain>(&mut self, name: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, Raw<V>> =
            Array::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.set(index, Raw(value), 0).unwrap();
    }

    /// Reads an entry of an array.
    pub fn get<V: Plain>(&self, name: &str, index: u32) -> V {
        let map: Array<&MapData, Raw<V>> = Array::try_from(self.object.map(name).unwrap()).unwrap();
        map.get(&index, 0).unwrap().0
    }

    /// Writes an entry of a hash map.
    pub fn put<K: Plain, V: Plain>(&mut self, name: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, Raw<K>, Raw<V>> =
            HashMap::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.insert(Raw(key), Raw(value), 0).unwrap();
    }

    /// Writes a prefix of a network.
    pub fn prefix<A: Plain>(&mut self, name: &str, network: A, length: u32) {
        let mut map: LpmTrie<&mut MapData, Raw<A>, u32> =
            LpmTrie::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.insert(&Key::new(length, Raw(network)), 1, 0).unwrap();
    }

    /// Reads an entry of a hash map.
    pub fn look<K: Plain, V: Plain>(&self, name: &str, key: K) -> Option<V> {
        let map: HashMap<&MapData, Raw<K>, Raw<V>> =
            HashMap::try_from(self.object.map(name).unwrap()).unwrap();
        map.get(&Raw(key), 0).ok().map(|Raw(value)| value)
    }

    pub fn remove<K: Plain, V: Plain>(&mut self, name: &str, key: K) {
        let mut map: HashMap<&mut MapData, Raw<K>, Raw<V>> =
            HashMap::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.remove(&Raw(key)).unwrap();
    }

    /// All entries of a hash map.
    pub fn all<K: Plain, V: Plain>(&self, name: &str) -> Vec<(K, V)> {
        let map: HashMap<&MapData, Raw<K>, Raw<V>> =
            HashMap::try_from(self.object.map(name).unwrap()).unwrap();
        map.iter()
            .map(|entry| {
                let (Raw(key), Raw(value)) = entry.unwrap();
                (key, value)
            })
            .collect()
    }
}

/// Runs a command in the thread's namespace.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(
        output.status.success(),
        "`{line}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
