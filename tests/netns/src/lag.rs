//! Views that lag: every node learns of a change at a time of its own.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::cluster::Cluster;
use crate::services;

/// Changes that are still under way.
#[derive(Debug, Default)]
pub struct Lag(Vec<JoinHandle<Result<()>>>);

impl Lag {
    /// Waits until every node has been told.
    pub fn over(self) -> Result<()> {
        self.0
            .into_iter()
            .try_for_each(|work| work.join().map_err(|_| anyhow!("a lagging write panicked"))?)
    }
}

impl Cluster {
    /// Writes the services file as it should be now, but each node's only after its own time.
    pub fn publish_lagging(&self, lags: &[(&str, Duration)]) -> Result<Lag> {
        let text = services::render(&self.state);
        let work = lags.iter().map(|&(node, lag)| {
            let (path, text) = (self.services_file(node), text.clone());
            thread::spawn(move || {
                thread::sleep(lag);
                services::replace(&path, &text)
            })
        });
        self.save()?;
        Ok(Lag(work.collect()))
    }
}
