//! Attachments of programs to devices: pinned, adopted, replaced in one step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, Link as _, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, tc};

use super::loader::kernel_at_least;
use super::maps::with_causes;
use crate::plane::XdpAttachment;

/// Priority and handle of our filter on kernels without tcx: by these it is found again.
const FILTER: (u16, TcHandle) = (1, TcHandle::new(0, 0x706f));

/// What is attached where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// tc ingress of an uplink.
    Uplink(u32),
    Xdp(u32, Mode),
    /// tc ingress of the host side of a task's device, or of a bridge.
    Task(u32),
    /// tc egress of a device by which tasks in the node's own namespace answer.
    Answer(u32),
}

/// As [`XdpAttachment`], with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Native,
    Generic,
}

impl From<Mode> for XdpAttachment {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}

impl Place {
    pub fn device(self) -> u32 {
        let (Self::Uplink(index) | Self::Xdp(index, _) | Self::Task(index) | Self::Answer(index)) = self;
        index
    }

    /// Which packets a tc program sees there.
    fn direction(self) -> TcAttachType {
        match self {
            Self::Answer(_) => TcAttachType::Egress,
            _ => TcAttachType::Ingress,
        }
    }

    fn pin(self) -> String {
        match self {
            Self::Uplink(index) => format!("uplink-{index}"),
            Self::Xdp(index, Mode::Native) => format!("native-{index}"),
            Self::Xdp(index, Mode::Generic) => format!("generic-{index}"),
            Self::Task(index) => format!("task-{index}"),
            Self::Answer(index) => format!("answer-{index}"),
        }
    }

    fn parse(pin: &str) -> Option<Self> {
        let (kind, index) = pin.rsplit_once('-')?;
        let index = index.parse().ok()?;
        Some(match kind {
            "uplink" => Self::Uplink(index),
            "native" => Self::Xdp(index, Mode::Native),
            "generic" => Self::Xdp(index, Mode::Generic),
            "task" => Self::Task(index),
            "answer" => Self::Answer(index),
            _ => return None,
        })
    }
}

/// All attachments of this agent. Dropping them detaches nothing: the pins hold them.
pub struct Links {
    directory: PathBuf,
    /// `None`: attached before this agent started, not touched yet; or a filter, which is held by nothing.
    held: BTreeMap<Place, Option<FdLink>>,
}

impl Links {
    /// Finds what an agent before this one left attached.
    pub fn adopt(directory: PathBuf) -> Self {
        let names = fs::read_dir(&directory).into_iter().flatten().flatten();
        let held = names
            .filter_map(|entry| Place::parse(entry.file_name().to_str()?))
            .map(|place| (place, None))
            .collect();
        Self { directory, held }
    }

    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.held.keys().copied()
    }

    pub fn has(&self, place: Place) -> bool {
        self.held.contains_key(&place)
    }

    /// Attaches the program, or puts it in the place of the one that is attached there, without a gap.
    pub fn attach_tc(
        &mut self,
        program: &mut SchedClassifier,
        place: Place,
        name: &str,
    ) -> Result<(), String> {
        let pin = self.directory.join(place.pin());
        if let Some(old) = self.existing(place, &pin)
            && let Ok(link) = SchedClassifierLink::try_from(old)
            && let Ok(id) = program.attach_to_link(link)
        {
            let link = program.take_link(id).map_err(|error| with_causes(&error))?;
            let link = FdLink::try_from(link).map_err(|error| with_causes(&error))?;
            self.held.insert(place, Some(link));
            return Ok(());
        }
        // A link that cannot be replaced belongs to a device that is gone.
        let _ = fs::remove_file(&pin);
        self.held.remove(&place);
        if !kernel_at_least(6, 6) {
            attach_filter(program, name, place.direction()).map_err(|error| with_causes(&error))?;
            self.held.insert(place, None);
            return Ok(());
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(name, place.direction(), first)
            .map_err(|error| with_causes(&error))?;
        let link = program.take_link(id).map_err(|error| with_causes(&error))?;
        let link = FdLink::try_from(link).map_err(|error| with_causes(&error))?;
        self.pin(place, link, &pin)
    }

    pub fn attach_xdp(&mut self, program: &mut Xdp, index: u32, mode: Mode) -> Result<(), String> {
        let place = Place::Xdp(index, mode);
        let pin = self.directory.join(place.pin());
        if let Some(old) = self.existing(place, &pin)
            && let Ok(link) = XdpLink::try_from(old)
            && let Ok(id) = program.attach_to_link(link)
        {
            let link = program.take_link(id).map_err(|error| with_causes(&error))?;
            let link = FdLink::try_from(link).map_err(|error| with_causes(&error))?;
            self.held.insert(place, Some(link));
            return Ok(());
        }
        let _ = fs::remove_file(&pin);
        self.held.remove(&place);
        let flags = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
        };
        let id = program
            .attach_to_if_index(index, flags)
            .map_err(|error| with_causes(&error))?;
        let link = program.take_link(id).map_err(|error| with_causes(&error))?;
        // An attachment without a link would end with the agent: dropping it detaches it.
        let link =
            FdLink::try_from(link).map_err(|_| "the driver allows no lasting attachment".to_owned())?;
        self.pin(place, link, &pin)
    }

    /// Whether the kernel still has it there. `xdp` is the program the device says is attached to it.
    pub fn is_attached(&self, place: Place, name: &str, xdp: Option<u32>) -> bool {
        let Some(Some(link)) = self.held.get(&place) else {
            return true;
        };
        let Ok(id) = link.info().map(|info| info.program_id()) else {
            return false;
        };
        match place {
            Place::Xdp(..) => xdp == Some(id),
            _ => SchedClassifier::query_tcx(name, place.direction())
                .is_ok_and(|(_, programs)| programs.iter().any(|program| program.id() == id)),
        }
    }

    /// Ends an attachment.
    pub fn detach(&mut self, place: Place) {
        let _ = fs::remove_file(self.directory.join(place.pin()));
        self.held.remove(&place);
    }

    fn existing(&mut self, place: Place, pin: &Path) -> Option<FdLink> {
        match self.held.remove(&place) {
            Some(Some(link)) => Some(link),
            _ => PinnedLink::from_pin(pin).ok().map(FdLink::from),
        }
    }

    fn pin(&mut self, place: Place, link: FdLink, pin: &Path) -> Result<(), String> {
        link.pin(pin).map_err(|error| with_causes(&error))?;
        // The pin holds it from here on; this handle is only for replacing the program.
        let link = PinnedLink::from_pin(pin).map_err(|error| with_causes(&error))?;
        self.held.insert(place, Some(link.into()));
        Ok(())
    }
}

/// Kernels before 6.6 have no tcx: a filter on the clsact qdisc, which outlives the agent by itself.
fn attach_filter(
    program: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    let (priority, handle) = FILTER;
    // It is there already where another program, or an agent before this one, made it.
    let _ = tc::qdisc_add_clsact(name);
    let before = SchedClassifierLink::attached(name, direction, priority, handle, None);
    let replaced = before.ok().and_then(|link| program.attach_to_link(link).ok());
    let id = match replaced {
        Some(id) => id,
        None => {
            let options = NlOptions {
                priority,
                handle,
                classid: None,
            };
            program.attach_with_options(name, direction, TcAttachOptions::Netlink(options))?
        }
    };
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes ours from all devices.
pub fn remove_filters() {
    if kernel_at_least(6, 6) {
        return;
    }
    let (priority, handle) = FILTER;
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    for name in devices.filter_map(|entry| entry.file_name().into_string().ok()) {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            if let Ok(link) = SchedClassifierLink::attached(&name, direction, priority, handle, None) {
                // One that is not there is gone all the same.
                let _ = link.detach();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_by_its_pin() {
        for place in [
            Place::Uplink(3),
            Place::Xdp(4, Mode::Native),
            Place::Xdp(4, Mode::Generic),
            Place::Task(70_000),
            Place::Answer(5),
        ] {
            assert_eq!(Place::parse(&place.pin()), Some(place));
        }
        assert_eq!(Place::parse("task-"), None);
        assert_eq!(Place::parse("else-3"), None);
    }
}
