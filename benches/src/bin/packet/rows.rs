//! What is measured: programs, packets, numbers of flows.

use anyhow::{Context, Result, ensure};
use aya::maps::ProgramArray;
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::checksum;
use lb_common::key::{TCP, UDP};
use lb_ebpf::plan::{HEADERS, Plan};
use lb_userspace::plane::ebpf::object::BENCH;
use nix::sched::{CloneFlags, unshare};

use crate::measure::{Median, Runs};
use crate::task::Task;
use crate::{FLOWS, Row, tables};

const XDP_TX: u32 = 3;
const XDP_PASS: u32 = 2;
const TC_REDIRECT: u32 = 7;
const LENGTH: usize = HEADERS;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// The objects and their programs, loaded.
struct Rig<'r> {
    harness: Ebpf,
    node: Ebpf,
    runs: &'r Runs,
}

/// Measures everything.
pub fn all(runs: &Runs) -> Result<Vec<Row>> {
    // Devices made here go with the process.
    unshare(CloneFlags::CLONE_NEWNET).context("measuring needs root")?;
    let mut rig = Rig {
        harness: EbpfLoader::new().load(BENCH).context("cannot load the harness")?,
        node: tables::node(runs.programs())?,
        runs,
    };
    rig.load()?;
    let mut rows = Vec::new();
    rig.xdp_rows(&mut rows)?;
    rig.tc_rows(&mut rows)?;
    Ok(rows)
}

impl Rig<'_> {
    fn load(&mut self) -> Result<()> {
        for name in ["drive_xdp", "nothing_xdp", "grow_xdp"] {
            xdp(&mut self.harness, name)?.load()?;
        }
        for name in ["drive_tc", "nothing_tc"] {
            tc(&mut self.harness, name)?.load()?;
        }
        xdp(&mut self.node, "uplink_xdp")?.load()?;
        for name in ["uplink", "task"] {
            tc(&mut self.node, name)?.load()?;
        }
        Ok(())
    }

    fn xdp_rows(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        let fresh = frame4(TCP, tables::REMOTE, ACK);
        let harness = |rig: &mut Self, name| -> Result<ProgramFd> {
            Ok(xdp(&mut rig.harness, name)?.fd()?.try_clone()?)
        };
        let nothing = harness(self, "nothing_xdp")?;
        let grow = harness(self, "grow_xdp")?;
        let uplink = xdp(&mut self.node, "uplink_xdp")?.fd()?.try_clone()?;
        let six = frame6(tables::REMOTE, ACK);
        for (name, program, frame, action, target) in [
            ("harness alone (xdp)", &nothing, &fresh, XDP_TX, ""),
            (
                "harness, and room for the tunnel (xdp)",
                &grow,
                &fresh,
                XDP_TX,
                "",
            ),
            (
                "xdp, established, remote owner",
                &uplink,
                &fresh,
                XDP_TX,
                "≤ 45; 4M ≤ 50",
            ),
            (
                "xdp, SYN, remote owner",
                &uplink,
                &frame4(TCP, tables::REMOTE, SYN),
                XDP_TX,
                "≤ 45; 4M ≤ 50",
            ),
            (
                "xdp, UDP, remote owner",
                &uplink,
                &frame4(UDP, tables::REMOTE, 0),
                XDP_TX,
                "",
            ),
            ("xdp, established IPv6, remote owner", &uplink, &six, XDP_TX, ""),
            (
                "xdp, not a frontend",
                &uplink,
                &frame4(TCP, tables::NONE, ACK),
                XDP_PASS,
                "≤ 22",
            ),
        ] {
            if !self.runs.want(name) {
                continue;
            }
            let mut medians = [None; FLOWS.len()];
            for (median, flows) in medians.iter_mut().zip(FLOWS) {
                *median = Some(self.measure("drive_xdp", program, frame, flows, action)?);
            }
            rows.push(Row {
                name,
                medians,
                target,
            });
        }
        Ok(())
    }

    fn tc_rows(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        let nothing = tc(&mut self.harness, "nothing_tc")?.fd()?.try_clone()?;
        let uplink = tc(&mut self.node, "uplink")?.fd()?.try_clone()?;
        let established = frame4(TCP, tables::LOCAL, ACK);
        let name = "harness alone (tc)";
        if self.runs.want(name) {
            let mut medians = [None; FLOWS.len()];
            for (median, flows) in medians.iter_mut().zip(FLOWS) {
                *median = Some(self.measure("drive_tc", &nothing, &established, flows, TC_REDIRECT)?);
            }
            rows.push(Row {
                name,
                medians,
                target: "",
            });
        }
        tables::task(&mut self.node, -1)?;
        let name = "tc owner, established";
        if self.runs.want(name) {
            let mut medians = [None; FLOWS.len()];
            // Half a million flows and their ways back are what the owner's tables are made for by default.
            for (median, flows) in medians.iter_mut().zip(FLOWS).take(4) {
                tables::establish(&mut self.node, flows)?;
                *median = Some(self.measure("drive_tc", &uplink, &established, flows, TC_REDIRECT)?);
            }
            rows.push(Row {
                name,
                medians,
                target: "≤ 90; 64k ≤ 180; 512k ≤ 300",
            });
        }
        let mut task = None;
        for (name, listen_check, target) in [
            ("tc owner, SYN, room in the tables", false, ""),
            ("tc owner, SYN, listen check, room in the tables", true, "≤ 600"),
            ("tc owner, SYN flood: tables full", false, ""),
            ("tc owner, SYN flood, listen check: tables full", true, ""),
        ] {
            if !self.runs.want(name) {
                continue;
            }
            let namespace = if listen_check {
                let task = match &task {
                    Some(task) => task,
                    None => task.insert(Task::start()?),
                };
                task.namespace
            } else {
                -1
            };
            tables::task(&mut self.node, namespace)?;
            let median = self.opening(&uplink, name.contains("flood"))?;
            let mut medians = [None; FLOWS.len()];
            let column = if name.contains("flood") { 4 } else { 2 };
            medians[column] = Some(median);
            rows.push(Row {
                name,
                medians,
                target,
            });
        }
        Ok(())
    }

    /// Every packet opens a connection whose entry is not there: in tables with room for it, or in a flood, which has to
    /// push out an older one each time.
    fn opening(&mut self, program: &ProgramFd, flood: bool) -> Result<Median> {
        let mut new = frame4(TCP, tables::LOCAL, SYN);
        // None of the established flows.
        let port = tables::CLIENT_PORT + 1;
        new[34..36].copy_from_slice(&port.to_be_bytes());
        if flood {
            return self.measure("drive_tc", program, &new, FLOWS[4], TC_REDIRECT);
        }
        self.prepare("drive_tc", program, &new, FLOWS[2])?;
        let runs = self.runs;
        runs.median_of(tables::ROOM, |repeat| {
            tables::clear(&mut self.node)?;
            self.run("drive_tc", &new, repeat, TC_REDIRECT)
        })
    }

    /// The median cost of one packet through `program`, called by `driver`, over so many flows.
    fn measure(
        &mut self,
        driver: &str,
        program: &ProgramFd,
        frame: &[u8],
        flows: u32,
        action: u32,
    ) -> Result<Median> {
        self.prepare(driver, program, frame, flows)?;
        let runs = self.runs;
        runs.median(|repeat| self.run(driver, frame, repeat, action))
    }

    /// Tells the harness what to call, with which packet, of how many flows.
    fn prepare(&mut self, driver: &str, program: &ProgramFd, frame: &[u8], flows: u32) -> Result<()> {
        let name = if driver == "drive_xdp" {
            "TEST_XDP"
        } else {
            "TEST_TC"
        };
        let map = self
            .harness
            .map_mut(name)
            .with_context(|| format!("there is no map {name}"))?;
        let mut next = ProgramArray::try_from(map)?;
        next.set(0, program, 0)?;
        let mut headers = [[0; 8]; HEADERS / 8];
        headers.as_flattened_mut().copy_from_slice(frame);
        let plan = Plan {
            state: 1,
            mask: flows - 1,
            six: u32::from(frame[12] == 0x86),
            pad: 0,
            headers,
        };
        tables::set(&mut self.harness, "PLAN", 0, plan)
    }

    /// Nanoseconds for each of so many packets.
    fn run(&mut self, driver: &str, frame: &[u8], repeat: u32, action: u32) -> Result<f64> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        let result = if driver == "drive_xdp" {
            xdp(&mut self.harness, driver)?.test_run(options)?
        } else {
            tc(&mut self.harness, driver)?.test_run(options)?
        };
        ensure!(
            result.return_value == action,
            "{driver} ended with {}, not with {action}: what was measured is something else",
            result.return_value
        );
        Ok(result.duration.as_nanos() as f64)
    }
}

fn xdp<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut Xdp> {
    let program = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn tc<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut SchedClassifier> {
    let program = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn ethernet(ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 11, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype);
    frame
}

/// A frame; nobody looks at the checksum of its transport header.
fn frame4(protocol: u8, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = ethernet([8, 0]);
    let length = ((LENGTH - 14) as u16).to_be_bytes();
    let [high, low] = Plan::identification(0);
    frame.extend([
        0x45, 0, length[0], length[1], high, low, 0x40, 0, 60, protocol, 0, 0,
    ]);
    frame.extend(Plan::source(0));
    frame.extend(tables::FRONT4);
    let sum = !checksum::fold(checksum::sum(&frame[14..]));
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    transport(frame, protocol, port, flags)
}

fn frame6(port: u16, flags: u8) -> Vec<u8> {
    let mut frame = ethernet([0x86, 0xdd]);
    let length = ((LENGTH - 14 - 40) as u16).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], TCP, 60]);
    frame.extend(tables::CLIENT6);
    frame.extend(tables::FRONT6);
    transport(frame, TCP, port, flags)
}

fn transport(mut frame: Vec<u8>, protocol: u8, port: u16, flags: u8) -> Vec<u8> {
    frame.extend(tables::CLIENT_PORT.to_be_bytes());
    frame.extend(port.to_be_bytes());
    if protocol == UDP {
        let length = (LENGTH - frame.len() + 4) as u16;
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
    } else {
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    }
    frame.resize(LENGTH, 0);
    frame
}
