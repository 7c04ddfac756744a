//! Programs, maps and attachments in the kernel, by the numbers that it gave them and gives nobody again for long.

use std::collections::BTreeSet;
use std::time::Duration;

use netns::process::Process;
use netns::wait;

/// What some processes hold open. Pins hold the same.
#[derive(Debug)]
pub struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

/// What these processes hold: /proc/PID/fdinfo names what stands behind each descriptor.
pub fn of(processes: &[Process]) -> Objects {
    let mut lines = Vec::new();
    for process in processes {
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", process.pid)).unwrap() {
            // A descriptor may be closed meanwhile.
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    let numbers = |name: &str| -> BTreeSet<u32> {
        let values = lines.iter().filter_map(|line| line.strip_prefix(name));
        values.map(|value| value.trim().parse().unwrap()).collect()
    };
    let objects = Objects {
        programs: numbers("prog_id:"),
        maps: numbers("map_id:"),
        links: numbers("link_id:"),
    };
    let each = [&objects.programs, &objects.maps, &objects.links];
    // An agent has more than one program, many maps, and an attachment for its uplink and each of its tasks.
    let enough = each.iter().all(|numbers| numbers.len() >= 2 * processes.len());
    assert!(enough, "{objects:?} of {} agents", processes.len());
    objects
}

impl Objects {
    /// The kernel frees them a moment after the last hold on them is gone.
    pub fn wait_gone(&self) {
        wait::until(
            "programs, maps and attachments go",
            Duration::from_secs(30),
            || self.left().is_empty(),
        )
        .unwrap_or_else(|error| panic!("{error}: {:?}", self.left()));
    }

    fn left(&self) -> Vec<String> {
        let programs =
            aya::programs::loaded_programs().filter_map(|program| program.ok().map(|info| info.id()));
        let maps = aya::maps::loaded_maps().filter_map(|map| map.ok().map(|info| info.id()));
        let links = aya::programs::loaded_links().filter_map(|link| link.ok().map(|info| info.id()));
        let mut left: Vec<String> = Vec::new();
        left.extend(
            programs
                .filter(|id| self.programs.contains(id))
                .map(|id| format!("program {id}")),
        );
        left.extend(
            maps.filter(|id| self.maps.contains(id))
                .map(|id| format!("map {id}")),
        );
        left.extend(
            links
                .filter(|id| self.links.contains(id))
                .map(|id| format!("link {id}")),
        );
        left
    }
}
