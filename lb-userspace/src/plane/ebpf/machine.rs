//! What follows from the machine: nodes and the ways to them, uplinks, the devices of tasks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use lb_common::table::{self, node_flag};

use super::hooks::{self, Behind};
use super::host::Device;
use super::links::{Mode, Place};
use super::refusal::Refusal;
use super::state::State;
use super::uplinks::{self, Plan, Uplink};
use super::ways;
use crate::model::Snapshot;
use crate::plane::{Difference, EbpfError, InterfaceReport, Problem, XdpAttachment};

impl State {
    /// Writes the nodes. Before a snapshot's tables are written those that are gone stay (`keep`), since tables still
    /// lead to them.
    pub(super) fn place_nodes(
        &mut self,
        snapshot: &Arc<Snapshot>,
        keep: bool,
    ) -> Result<Vec<(u32, IpAddr)>, EbpfError> {
        let ways = ways::find(&self.host, snapshot, &self.node, |device| self.xdp_flags(device));
        let settings = ways::settings(&self.host, &ways, &self.limits);
        self.tables.set_settings(settings)?;
        let mut nodes = ways.nodes;
        if keep {
            for (tag, node) in self.tables.nodes() {
                nodes.entry(tag).or_insert(node);
            }
        }
        self.tables.set_nodes(nodes)?;
        self.tables.set_peers(ways.peers)?;
        self.problems.insert("ways", ways.problems);
        Ok(ways.unresolved)
    }

    /// Takes note of the node's addresses.
    pub(super) fn note_addresses(&mut self) -> Result<(), EbpfError> {
        let uplinks = self.uplinks.iter().map(|uplink| uplink.index).collect();
        let bridges = hooks::bridges(&self.host, &uplinks);
        let own = self.host.own_addresses(&bridges);
        if self.tables.set_addresses(self.host.local_addresses(), &own) {
            self.tables.refront()?;
        }
        Ok(())
    }

    /// After a look at the machine. Returns the neighbours that the kernel should ask for.
    pub(super) fn follow(&mut self) -> Result<Vec<(u32, IpAddr)>, EbpfError> {
        self.note_addresses()?;
        let Some(snapshot) = self.tables.applied().cloned() else {
            return Ok(Vec::new());
        };
        if let Some(loaded) = &mut self.programs {
            self.cgroup.follow(&mut loaded.programs);
        }
        let mut unresolved = self.serve()?;
        self.tables.set_routed(self.routed_vips())?;
        unresolved.extend(self.place_nodes(&snapshot, false)?);
        Ok(unresolved)
    }

    /// Attaches the programs where they belong, and hooks the tasks up.
    pub(super) fn serve(&mut self) -> Result<Vec<(u32, IpAddr)>, EbpfError> {
        self.serve_uplinks()?;
        let mut problems = Vec::new();
        let pair = self.portico0_pair();
        if let Some(pair) = pair {
            // Its other end is as a task's device.
            let problem = self.attach_task(pair.back).err().map(|problem| Problem {
                traffic: "processes of this node do not reach VIPs; clients from outside and tasks do".into(),
                ..problem
            });
            problems.extend(problem);
        }
        let behind = Behind {
            device: pair.map_or(0, |pair| pair.back),
            routed: self.routed_vips(),
        };
        let hooks = hooks::find_all(
            &self.host,
            &behind,
            self.asked(),
            self.tables.task_addresses(),
            self.tables.hooks(),
        );
        problems.extend(hooks.problems);
        let mut found = hooks.found;
        let mut devices = hooks::devices(&found);
        // A task gets connections only when its replies are translated back.
        for &device in &devices {
            if let Err(problem) = self.attach_task(device) {
                problems.push(problem);
                found.retain(|_, hooked| hooked.device != device);
            }
        }
        let uplinks = self.uplinks.iter().map(|uplink| uplink.index).collect();
        let bridges = hooks::bridges(&self.host, &uplinks);
        let answering = if found.values().any(hooks::is_host_task) {
            hooks::answering(&self.host, &uplinks, &bridges, &devices)
        } else {
            BTreeSet::new()
        };
        for &device in &answering {
            let Err(problem) = self.attach_to(Place::Answer(device)) else {
                continue;
            };
            problems.push(problem);
            if uplinks.contains(&device) {
                // Those that are hooked up have connections that go on; others would get some that are never answered.
                let before = self.tables.hooks();
                let had = |task: &IpAddr| before.get(task).is_some_and(hooks::is_host_task);
                found.retain(|task, hooked| !hooks::is_host_task(hooked) || had(task));
            }
        }
        self.tables.set_hooks(found)?;
        devices.extend(pair.map(|pair| pair.back));
        for bridge in bridges {
            let problem = self.attach_task(bridge).err().map(|problem| Problem {
                traffic: "containers there that are tasks of no service do not reach VIPs".into(),
                ..problem
            });
            problems.extend(problem);
            devices.insert(bridge);
        }
        self.problems.insert("hooks", problems);
        self.drop_links(&devices, &answering);
        Ok(hooks.unresolved)
    }

    /// All attachments, with the programs loaded just now in the place of the old ones.
    pub(super) fn replace_programs(&mut self) {
        if let Some(loaded) = &mut self.programs {
            self.cgroup.attach(&mut loaded.programs);
        }
        for place in self.links.places().collect::<Vec<_>>() {
            let Some(name) = self
                .host
                .devices
                .get(&place.device())
                .map(|device| device.name.clone())
            else {
                self.links.detach(place);
                continue;
            };
            if let Err(reason) = self.attach(place, &name) {
                tracing::warn!(
                    device = name,
                    reason,
                    "the program attached before could not be replaced"
                );
            }
        }
    }

    fn attach(&mut self, place: Place, name: &str) -> Result<(), String> {
        let loaded = self.programs.as_mut().ok_or("no program is loaded")?;
        let words = |error: EbpfError| error.to_string();
        match place {
            Place::Uplink(_) => {
                self.links
                    .attach_tc(loaded.programs.tc("uplink").map_err(words)?, place, name)
            }
            Place::Task(_) => self
                .links
                .attach_tc(loaded.programs.tc("task").map_err(words)?, place, name),
            Place::Answer(_) => {
                self.links
                    .attach_tc(loaded.programs.tc("answer").map_err(words)?, place, name)
            }
            Place::Xdp(index, mode) => {
                self.links
                    .attach_xdp(loaded.programs.xdp().map_err(words)?, index, mode)
            }
        }
    }

    fn attach_task(&mut self, device: u32) -> Result<(), Problem> {
        self.attach_to(Place::Task(device))
    }

    fn attach_to(&mut self, place: Place) -> Result<(), Problem> {
        if self.links.has(place) {
            return Ok(());
        }
        let name = self
            .host
            .devices
            .get(&place.device())
            .map(|device| device.name.clone())
            .unwrap_or_default();
        self.attach(place, &name)
            .map_err(|reason| unattached(place, &name, &reason))
    }

    fn serve_uplinks(&mut self) -> Result<(), EbpfError> {
        let underlay = self
            .tables
            .applied()
            .map(|snapshot| uplinks::underlay(&self.host, snapshot, &self.node));
        let (uplinks, mut problems) =
            uplinks::choose(&self.host, &self.interfaces, &underlay.unwrap_or_default());
        let mut refusals = std::mem::take(&mut self.refusals);
        self.uplinks = uplinks
            .iter()
            .map(|uplink| self.serve_uplink(uplink, refusals.remove(&uplink.index), &mut problems))
            .collect();
        let mut bytes = HashMap::new();
        for uplink in &self.uplinks {
            let xdp = self.xdp_flags(uplink.index).into();
            let gateway6 = self.host.gateways6.get(&uplink.index);
            // Of two that share a byte the first keeps it.
            bytes.entry(uplink.index & 0xff).or_insert(table::Uplink {
                ifindex: uplink.index,
                xdp,
                family6: gateway6.map_or(0, |_| libc::AF_INET6 as u32),
                gateway6: gateway6.map_or([0; 16], Ipv6Addr::octets),
            });
        }
        if let Some(pair) = self.portico0_pair() {
            bytes.entry(pair.back & 0xff).or_insert(table::Uplink {
                ifindex: pair.back,
                xdp: node_flag::HOST.into(),
                ..table::Uplink::default()
            });
        }
        self.problems.insert("uplinks", problems);
        self.tables.set_uplinks(bytes)
    }

    /// `before` is why XDP was refused there the last time.
    fn serve_uplink(
        &mut self,
        uplink: &Uplink,
        before: Option<Refusal>,
        problems: &mut Vec<Problem>,
    ) -> InterfaceReport {
        let mut report = InterfaceReport {
            name: uplink.name.clone(),
            index: uplink.index,
            xdp: None,
            tc: self.links.has(Place::Uplink(uplink.index)),
            why: uplink.why.clone(),
        };
        if !report.tc {
            match self.attach(Place::Uplink(uplink.index), &uplink.name) {
                Ok(()) => report.tc = true,
                Err(reason) => problems.push(Problem {
                    error: format!("cannot attach the tc program to {}: {reason}", uplink.name),
                    traffic: "clients that arrive there are not served".into(),
                    fix: "see what else is attached there: bpftool net show".into(),
                }),
            }
        }
        let mode = match uplink.plan {
            Plan::TcOnly => return report,
            Plan::TryNative | Plan::Native => Mode::Native,
            Plan::Generic => Mode::Generic,
        };
        let place = Place::Xdp(uplink.index, mode);
        if self.links.has(place) {
            report.xdp = Some(mode.into());
            return report;
        }
        let rival = self.host.devices.get(&uplink.index).and_then(|device| device.xdp);
        let refusal = match before.filter(|before| before.stands(rival.is_some())) {
            Some(before) => before,
            None => match self.attach(place, &uplink.name) {
                Ok(()) => {
                    report.xdp = Some(mode.into());
                    return report;
                }
                Err(reason) => Refusal::new(rival, reason),
            },
        };
        report.why = format!("{}; it was refused: {}", uplink.why, refusal.reason);
        if uplink.plan != Plan::TryNative {
            problems.push(refused(uplink, mode, &refusal.reason));
        }
        self.refusals.insert(uplink.index, refusal);
        report
    }

    /// How an XDP program may send by a device.
    fn xdp_flags(&self, device: u32) -> u16 {
        let attached = |uplink: &InterfaceReport| (uplink.index == device).then_some(uplink.xdp?);
        let xdp = self.uplinks.iter().find_map(attached);
        let mut flags = 0;
        if takes_redirects(&self.uplinks, xdp) {
            flags |= node_flag::XDP;
        }
        let is_veth = |device: &Device| device.kind.as_deref() == Some("veth");
        // The kernel wakes the other end of a veth for what XDP_TX sends only if that end has an XDP program too
        // (drivers/net/veth.c, veth_xdp_flush): without one, packets lie there until something else passes.
        if xdp == Some(XdpAttachment::Native) && self.host.devices.get(&device).is_some_and(is_veth) {
            flags |= node_flag::REDIRECT;
        }
        flags
    }

    /// Ends attachments to devices that are gone or lead to no client or task any more, and XDP in a mode not wanted.
    fn drop_links(&mut self, inside: &HashSet<u32>, answering: &BTreeSet<u32>) {
        for place in self.links.places().collect::<Vec<_>>() {
            let uplink = self.uplinks.iter().find(|uplink| uplink.index == place.device());
            let wanted = match place {
                Place::Uplink(_) => uplink.is_some(),
                Place::Xdp(_, mode) => uplink.is_some_and(|uplink| uplink.xdp == Some(mode.into())),
                Place::Task(device) => inside.contains(&device),
                Place::Answer(device) => answering.contains(&device),
            };
            if !wanted {
                self.links.detach(place);
            }
        }
    }

    /// Attachments that something else has ended.
    pub(super) fn missing_links(&mut self) -> Vec<Difference> {
        let mut missing = match &mut self.programs {
            Some(loaded) => self.cgroup.missing(&mut loaded.programs),
            None => Vec::new(),
        };
        for place in self.links.places().collect::<Vec<_>>() {
            let Some(name) = self
                .host
                .devices
                .get(&place.device())
                .map(|device| device.name.clone())
            else {
                continue;
            };
            let xdp = self
                .host
                .devices
                .get(&place.device())
                .and_then(|device| device.xdp);
            if !self.links.is_attached(place, &name, xdp) {
                let repaired = self.attach(place, &name).is_ok();
                missing.push(Difference {
                    entry: format!("program on {name}"),
                    wanted: format!("{place:?}"),
                    found: "detached".into(),
                    repaired,
                });
            }
        }
        missing
    }
}

/// Why a device inside the node, or the way out of a device, is not served.
fn unattached(place: Place, name: &str, reason: &str) -> Problem {
    let (error, traffic) = match place {
        Place::Answer(_) => (
            format!("cannot attach the tc program to what leaves by {name}: {reason}"),
            format!(
                "tasks on the network of the node itself do not answer clients there; where {name} is an uplink such tasks \
                 get connections only if they had the program before"
            ),
        ),
        _ => (
            format!(
                "cannot attach the tc program to {name}, behind which clients of this node are: {reason}"
            ),
            "the task gets no connections; its service's other tasks serve on".into(),
        ),
    };
    Problem {
        error,
        traffic,
        fix: "see what else is attached there: bpftool net show".into(),
    }
}

/// Whether an XDP program may redirect into a device with this attachment: a native program needs the driver's help at
/// the receiver, generic ones do not.
fn takes_redirects(uplinks: &[InterfaceReport], xdp: Option<XdpAttachment>) -> bool {
    let native = |uplink: &InterfaceReport| uplink.xdp == Some(XdpAttachment::Native);
    match xdp {
        Some(XdpAttachment::Native) => true,
        Some(XdpAttachment::Generic) => !uplinks.iter().any(native),
        None => false,
    }
}

fn refused(uplink: &Uplink, mode: Mode, reason: &str) -> Problem {
    let name = &uplink.name;
    let mode = if mode == Mode::Native { "native" } else { "generic" };
    Problem {
        error: format!("cannot attach XDP to {name} in {mode} mode: {reason}"),
        traffic: format!("{name} is served by the tc program instead (slower, nothing lost)"),
        fix: format!(
            "detach what is there (ip link set dev {name} xdp off), or set interfaces.{name}.xdp = \"off\" to silence this"
        ),
    }
}
