//! What this process may do, and so an agent started the same way.

use super::finding::Finding;
use crate::outside;

/// Bits of the capability sets (linux/capability.h).
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

pub fn check() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    vec![capabilities(effective(&status))]
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn capabilities(effective: Option<u64>) -> Finding {
    let Some(set) = effective else {
        return Finding::warning(
            "capabilities",
            "/proc/self/status does not tell them",
            "mount /proc",
        );
    };
    let has = |bit: u32| set & 1 << bit != 0;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    // The verifier lets only those who have it use packet pointers freely.
    if !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if missing.is_empty() {
        return Finding::ok("capabilities", "enough to load and attach programs");
    }
    Finding::failure(
        "capabilities",
        format!(
            "{} missing: programs cannot be loaded or attached",
            missing.join(", ")
        ),
        if outside::is_contained() {
            "give the container NET_ADMIN and SYS_ADMIN (cap_add)"
        } else {
            "run as root, or give the agent's unit AmbientCapabilities= with these"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            capabilities(effective("Name:\tx\nCapEff:\t000001ffffffffff\n")).state,
            State::Ok
        );
        let none = capabilities(effective("CapEff:\t0000000000000000\n"));
        assert_eq!(none.state, State::Failure);
        assert!(
            none.words
                .starts_with("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON missing")
        );
        assert_eq!(
            capabilities(Some(1 << NET_ADMIN | 1 << SYS_ADMIN)).state,
            State::Ok
        );
    }
}
