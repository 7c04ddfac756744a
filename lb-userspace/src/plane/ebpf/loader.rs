//! The programs of `lb-ebpf`: embedded, given this node's identity, loaded over the pinned maps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aya::programs::{Program, SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, Pod};

use super::cgroup;
use super::layout::Wanted;
use super::maps::with_causes;
use super::object;
use super::pins::Pins;
use crate::plane::EbpfError;

/// What is built into the programs when they are loaded; another identity takes other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This node's tag, 0 where the snapshot does not have this node.
    pub node: u16,
    /// Its underlay address.
    pub address: Ipv4Addr,
    pub cookie: u64,
    pub seed: u64,
    /// Cookie of the network namespace that the agent runs in.
    pub namespace: u64,
    /// Ports of the name server that sockets are steered to, IPv4 and IPv6; 0 where there is none.
    pub dns_ports: [u16; 2],
}

/// The attached programs and the ones that are only run on request.
pub struct Programs {
    object: Ebpf,
    /// Why the kernel will not have programs at sockets.
    refusals: BTreeMap<&'static str, String>,
}

/// Opens the object: maps are adopted where they are pinned and made where they are not, nothing is verified yet.
pub fn open(pins: &Pins, wanted: &[Wanted], identity: &Identity) -> Result<Ebpf, EbpfError> {
    let address = identity.address.octets();
    let csum_flag = ipv6_csum_flag();
    let [dns4, dns6] = identity.dns_ports.map(u16::to_be_bytes);
    let mut loader = EbpfLoader::new();
    for map in wanted {
        loader.map_pin_path(map.name, pins.map(map.name));
        if let Some(entries) = map.entries {
            loader.map_max_entries(map.name, entries);
        }
    }
    global(&mut loader, "SELF_NODE", &identity.node);
    global(&mut loader, "SELF_ADDRESS", &address);
    global(&mut loader, "COOKIE", &identity.cookie);
    global(&mut loader, "SEED", &identity.seed);
    global(&mut loader, "IPV6_CSUM_FLAG", &csum_flag);
    global(&mut loader, "HOST_NETNS", &identity.namespace);
    global(&mut loader, "DNS_PORT4", &dns4);
    global(&mut loader, "DNS_PORT6", &dns6);
    loader.load(object::PROGRAMS).map_err(|error| EbpfError::Load {
        reason: with_causes(&error),
    })
}

fn global<'a, T: Pod>(loader: &mut EbpfLoader<'a>, name: &'a str, value: &'a T) {
    loader.override_global(name, value, false);
}

/// BPF_F_IPV6 of `bpf_l4_csum_replace`, from Linux 6.16 on: without it an IPv6 packet whose checksum the device has
/// verified would be taken for broken after its address was replaced (commit ead7f9b8de65).
fn ipv6_csum_flag() -> u64 {
    if kernel_at_least(6, 16) { 1 << 7 } else { 0 }
}

/// Whether the running kernel is of this version or later.
pub fn kernel_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0))
}

/// Has the kernel take one program that asks for nothing, to see whether it takes any.
pub fn try_one(object: &mut Ebpf) -> Result<(), EbpfError> {
    let program: &mut SchedClassifier = find(object, "probe")?;
    program.load().map_err(|error| refused("probe", &error))
}

impl Programs {
    /// Has the kernel verify and translate all programs.
    pub fn load(mut object: Ebpf) -> Result<Self, EbpfError> {
        for name in ["uplink", "task", "answer", "trace", "probe"] {
            let program: &mut SchedClassifier = find(&mut object, name)?;
            program.load().map_err(|error| refused(name, &error))?;
        }
        let program: &mut Xdp = find(&mut object, "uplink_xdp")?;
        program.load().map_err(|error| refused("uplink_xdp", &error))?;
        let mut refusals = BTreeMap::new();
        for name in cgroup::HOOKS {
            let program = object.program_mut(name).ok_or(EbpfError::MissingProgram(name))?;
            let loaded = match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::CgroupSock(program) => program.load(),
                _ => return Err(EbpfError::MissingProgram(name)),
            };
            // The mesh works without them.
            if let Err(error) = loaded {
                refusals.insert(name, refused(name, &error).to_string());
            }
        }
        Ok(Self { object, refusals })
    }

    pub fn tc(&mut self, name: &'static str) -> Result<&mut SchedClassifier, EbpfError> {
        find(&mut self.object, name)
    }

    /// A program at sockets, or why there is none.
    pub fn socket(&mut self, name: &'static str) -> Result<&mut Program, String> {
        if let Some(refusal) = self.refusals.get(name) {
            return Err(refusal.clone());
        }
        let program = self.object.program_mut(name);
        program.ok_or_else(|| EbpfError::MissingProgram(name).to_string())
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, EbpfError> {
        find(&mut self.object, "uplink_xdp")
    }
}

fn find<'o, P>(object: &'o mut Ebpf, name: &'static str) -> Result<&'o mut P, EbpfError>
where
    &'o mut P: TryFrom<&'o mut aya::programs::Program>,
{
    let program = object.program_mut(name).ok_or(EbpfError::MissingProgram(name))?;
    program.try_into().map_err(|_| EbpfError::MissingProgram(name))
}

fn refused(program: &'static str, error: &dyn std::error::Error) -> EbpfError {
    let words = with_causes(error);
    // The verifier's log is long, and its last lines say what it is about.
    let tail: Vec<&str> = words.lines().rev().take(8).collect();
    let reason = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    tracing::debug!(program, %words, "refused");
    EbpfError::Program { program, reason }
}
