//! The eBPF plane of an agent that was built without it: the same face, and one answer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::collision::{Claims, Survey};
use super::proxy::Beside;
use super::{Difference, EbpfError, PlaneReport, Question, TraceReport};
use crate::config::{Config, Dns};
use crate::model::{Family, Shape, Snapshot};

/// What this machine has of the networks of VIPs does not matter where there is no plane.
pub async fn survey(_: &Claims<'_>) -> Result<Survey, EbpfError> {
    Err(EbpfError::NotBuilt)
}

/// Only an agent with packet programs knows its filters again.
pub const fn remove_filters() {}

/// Never made.
#[derive(Clone)]
pub enum EbpfPlane {}

impl EbpfPlane {
    pub async fn start(_: &Config) -> Result<Self, EbpfError> {
        Err(EbpfError::NotBuilt)
    }

    pub fn found_active(&self) -> Option<HashSet<u64>> {
        match *self {}
    }

    pub fn found_shapes(&self) -> HashMap<u64, Shape> {
        match *self {}
    }

    pub fn steer(&self, _: &Dns, _: &[SocketAddr]) {
        match *self {}
    }

    pub fn beside(&self) -> Beside {
        match *self {}
    }

    pub fn set_taken(&self, _: BTreeSet<(IpAddr, u16, u8)>) {
        match *self {}
    }

    pub fn set_open(&self, _: BTreeSet<(Family, u16)>) {
        match *self {}
    }

    pub fn apply(&self, _: &Arc<Snapshot>) -> Result<(), EbpfError> {
        match *self {}
    }

    pub fn report(&self) -> PlaneReport {
        match *self {}
    }

    pub fn trace(&self, _: &Question) -> Result<TraceReport, EbpfError> {
        match *self {}
    }

    pub fn check(&self) -> Result<Vec<Difference>, EbpfError> {
        match *self {}
    }
}
