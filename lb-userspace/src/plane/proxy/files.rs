//! Open files: a connection takes two, and the process may have only so many.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Of the files that the process may open, one in so many is for what is not a client's connection: listening sockets, pipes,
/// UDP flows, other nodes.
const OTHERS: u64 = 16;

/// Has the process open as many files as it may, and gives how many connections those suffice for.
pub fn connections() -> usize {
    // Where it cannot be asked, what Linux has given processes always.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the process opens fewer files than it might");
            soft
        }
    };
    usize::try_from((files - files / OTHERS) / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_takes_what_it_may_have_and_keeps_some_for_others() {
        let connections = connections() as u64;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert!(2 * connections < hard && 2 * connections > hard / 2);
    }
}
