//! Open files: a connection takes two, and the process may have only so many.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Of the files that the process may open, one in so many is for what is not a client's connection: listening sockets, pipes,
/// UDP flows, other nodes.
const OTHERS: u64 = 16;

/// Has the process open as many files as it may. To be called before it is given any: an agent before it may have had more.
pub fn raise() {
    let (soft, hard) = limits();
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        tracing::warn!(%error, soft, hard, "the process opens fewer files than it might");
    }
}

/// How many connections those suffice for that the process may open.
pub fn connections() -> usize {
    let (files, _) = limits();
    usize::try_from((files - files / OTHERS) / 2).unwrap_or(usize::MAX)
}

/// Now, and at most.
fn limits() -> (u64, u64) {
    // Where it cannot be asked, what Linux has given processes always.
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_takes_what_it_may_have_and_keeps_some_for_others() {
        raise();
        let connections = connections() as u64;
        let (soft, hard) = limits();
        assert_eq!(soft, hard);
        assert!(2 * connections < hard && 2 * connections > hard / 2);
    }
}
