//! The programs at both ends of a path, and in plain XDP's middle.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_ebpf::plan::{FRAME, HEADERS, Hop, Plan};
use lb_userspace::plane::ebpf::object::BENCH;
use netns::Namespace;

/// Flows, in turn.
const FLOWS: u32 = 1024;
/// Frames made at a time, as a driver would take them from its ring.
const BATCH: u32 = 64;

/// A [`Plan`] or a [`Hop`] for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Raw<T>(T);

// SAFETY: `Plain` promises what `Pod` asks for; the wrapper is transparent.
unsafe impl<T: lb_common::Plain> aya::Pod for Raw<T> {}

/// What one run did.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub arrived: u64,
    pub time: Duration,
}

/// The measuring programs, loaded.
pub struct Frames(Ebpf);

impl Frames {
    pub fn load() -> Result<Self> {
        let mut frames = Self(
            EbpfLoader::new()
                .load(BENCH)
                .context("cannot load the programs")?,
        );
        for name in ["generate_xdp", "forward_xdp", "arrive_xdp"] {
            frames.program(name)?.load()?;
        }
        Ok(frames)
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self
            .0
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// Attaches a program natively to a device of a place.
    pub fn attach(&mut self, name: &str, place: &Namespace, device: &str) -> Result<XdpLinkId> {
        let program = self.program(name)?;
        place
            .run(|| program.attach(device, XdpMode::Driver))?
            .with_context(|| format!("cannot attach {name} to {device} of {}", place.name()))
    }

    pub fn detach(&mut self, name: &str, link: XdpLinkId) -> Result<()> {
        Ok(self.program(name)?.detach(link)?)
    }

    /// What the plain forwarder writes, and where it sends.
    pub fn set_hop(&mut self, hop: Hop) -> Result<()> {
        let map = self.0.map_mut("HOP").context("no map HOP")?;
        let mut map: Array<&mut MapData, Raw<Hop>> = map.try_into()?;
        Ok(map.set(0, Raw(hop), 0)?)
    }

    /// Sends copies of a frame out of the device `index` of a place, each of another flow, and counts what arrives.
    pub fn run(&mut self, place: &Namespace, index: u32, frame: &[u8; FRAME], packets: u32) -> Result<Run> {
        let mut headers = [[0; 8]; HEADERS / 8];
        headers.as_flattened_mut()[..FRAME].copy_from_slice(frame);
        let plan = Plan {
            state: 1,
            mask: FLOWS - 1,
            six: 0,
            pad: 0,
            headers,
        };
        let map = self.0.map_mut("PLAN").context("no map PLAN")?;
        let mut map: Array<&mut MapData, Raw<Plan>> = map.try_into()?;
        map.set(0, Raw(plan), 0)?;
        let before = self.arrived()?;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, FRAME as u32, 0, index, 0, 0];
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let program = self.program("generate_xdp")?;
        let time = place.run(|| {
            let began = Instant::now();
            let options = TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(&context),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            program.test_run(options).map(|_| began.elapsed())
        })??;
        // What still lies in a ring is at most that ring.
        std::thread::sleep(Duration::from_millis(5));
        Ok(Run {
            arrived: self.arrived()? - before,
            time,
        })
    }

    fn arrived(&self) -> Result<u64> {
        let map = self.0.map("ARRIVED").context("no map ARRIVED")?;
        let map: PerCpuArray<&MapData, u64> = map.try_into()?;
        Ok(map.get(&0, 0)?.iter().sum())
    }
}
