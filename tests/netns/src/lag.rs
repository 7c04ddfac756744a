//! Views that lag: every node learns of a change at a time of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Writes the services file as it should be now, but each node's only after its own time. A node that was told of
    /// something later meanwhile keeps that.
    pub fn publish_lagging(&self, lags: &[(&str, Duration)]) -> Result<Lag> {
        let text = services::render(&self.state);
        let version = self.versions.next();
        let work = lags.iter().map(|&(node, lag)| {
            let (path, text) = (self.services_file(node), text.clone());
            let (versions, node) = (self.versions.clone(), node.to_owned());
            thread::spawn(move || {
                thread::sleep(lag);
                versions.write(&node, version, || services::replace(&path, &text))
            })
        });
        self.save()?;
        Ok(Lag(work.collect()))
    }
}

/// Which version of the services file each node has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(Arc<Mutex<(u64, BTreeMap<String, u64>)>>);

impl Versions {
    pub fn next(&self) -> u64 {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        versions.0 += 1;
        versions.0
    }

    /// Writes unless the node has a later version.
    pub fn write(&self, node: &str, version: u64, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = versions.1.entry(node.to_owned()).or_default();
        if *has < version {
            write()?;
            *has = version;
        }
        Ok(())
    }
}
