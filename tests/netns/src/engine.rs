//! Real container engines: one dockerd for each node, in the node's network namespace, with files, cgroups and a socket of
//! its own. It is Debian's (package docker.io), or the first `dockerd` in the path.
//!
//! An engine lives among the mounts of the cluster's supervisor, as agents do. What it mounts (layers, namespaces,
//! memory) is seen by nobody else and goes with the cluster.

mod daemon;
mod image;
mod question;
mod swarm;

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;

pub(crate) use daemon::uncover;
pub use image::IMAGE;

/// Programs of the engine, where Debian puts them: somebody may have a newer client in the path, which asks for more
/// than this engine has.
pub(crate) const PROGRAMS: &str = "/usr/bin";

impl Cluster {
    /// Where a node's engine answers.
    pub fn engine_socket(&self, node: &str) -> PathBuf {
        // A socket's name has at most 107 bytes.
        self.state.node_directory(node).join("docker.sock")
    }

    /// Everything else that an engine keeps.
    pub fn engine_directory(&self, node: &str) -> PathBuf {
        self.state.node_directory(node).join("engine")
    }

    pub fn engine_log(&self, node: &str) -> PathBuf {
        self.state.node_directory(node).join("engine.log")
    }
}

/// Debian's own, if it is there.
pub(crate) fn program(name: &str) -> PathBuf {
    let debian = Path::new(PROGRAMS).join(name);
    if debian.is_file() { debian } else { name.into() }
}
