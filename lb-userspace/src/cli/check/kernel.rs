//! The kernel's version and its type information.

use std::path::Path;

use super::finding::Finding;

/// First with everything the programs use: the flags by which `bpf_skb_adjust_room` changes the protocol of what comes out
/// of a tunnel, and `BPF_FIB_LOOKUP_SKIP_NEIGH`, came with 6.3; links for tc (tcx) with 6.6; before that tc filters take
/// their place.
const NEEDED: (u32, u32) = (6, 3);
const BTF: &str = "/sys/kernel/btf/vmlinux";

pub fn check() -> Vec<Finding> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![version(release.trim()), btf(Path::new(BTF))]
}

fn version(release: &str) -> Finding {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Finding::warning("kernel", format!("{release:?} is no version"), "see uname -r");
    };
    if (major, minor) < NEEDED {
        let (major, minor) = NEEDED;
        return Finding::failure(
            "kernel",
            format!("{release} is too old for the eBPF plane"),
            format!("run {major}.{minor} or newer; or set mode = \"proxy\" in portico.toml"),
        );
    }
    Finding::ok("kernel", release)
}

fn btf(path: &Path) -> Finding {
    if path.exists() {
        return Finding::ok("BTF", path.display());
    }
    Finding::failure(
        "BTF",
        format!(
            "{} is not there: the kernel cannot check the programs' types",
            path.display()
        ),
        "run a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("5.4.0-200-generic").state, State::Failure);
        assert_eq!(version("6.6.0").state, State::Ok);
        assert_eq!(version("6.1.0-18-amd64").state, State::Failure);
        assert_eq!(version("10.0").state, State::Ok);
        assert_eq!(version("linux").state, State::Warning);
    }
}
