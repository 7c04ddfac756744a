//! What the plane has of the kernel: sockets, routes, rules. Each snapshot changes it, and each second it is looked at.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::fronts::{Bind, Fronts};
use super::listen::Listeners;
use super::neighbours::Neighbours;
use super::serving::Served;
use super::transparent::Transparent;
use super::vips::Vips;
use super::workers::Workers;
use crate::plane::Problem;

/// Every so many looks routes and rules are made anew: others may have removed them.
const DOUBT: u64 = 30;

pub struct State {
    pub listeners: Listeners,
    pub vips: Vips,
    pub transparent: Transparent,
    pub neighbours: Neighbours,
    pub served: Served,
    pub applied_in: Duration,
    looks: u64,
}

impl State {
    pub fn new(listeners: Listeners, vips: Vips, transparent: Transparent, served: Served) -> Self {
        Self {
            listeners,
            vips,
            transparent,
            neighbours: Neighbours::default(),
            served,
            applied_in: Duration::ZERO,
            looks: 0,
        }
    }

    /// Listens where clients are to be served.
    pub fn listen(&mut self, fronts: &Fronts, workers: &Workers) {
        let is_own = |bind: &Bind| self.vips.has(bind.address.ip());
        let wanted = self.served.listening(fronts, is_own, Instant::now());
        self.listeners.follow(&wanted, workers);
    }

    /// Puts routes, rules and neighbours right that are not as they should be. Blocks.
    pub fn mend(&mut self, runtime: &Handle) {
        self.looks += 1;
        if self.looks.is_multiple_of(DOUBT) {
            self.vips.doubt();
            self.transparent.doubt();
        }
        runtime.block_on(async {
            if self.vips.are_started() && !self.vips.are_settled() {
                self.vips.mend(Instant::now()).await;
            }
            if !self.transparent.are_settled() {
                self.transparent.mend().await;
            }
            if !self.neighbours.are_settled() {
                self.neighbours.mend().await;
            }
        });
    }

    /// Where it should serve and cannot, and why.
    pub fn missing(&self, fronts: &Fronts) -> BTreeMap<Bind, String> {
        let is_lost = |bind: &Bind| !bind.address.ip().is_unspecified() && !self.vips.has(bind.address.ip());
        let unheard = fronts.served().filter(is_lost);
        let unheard = unheard.map(|bind| (bind, "nothing leads to that address here".to_owned()));
        let failed = self.listeners.missing();
        unheard
            .chain(failed.map(|(bind, error)| (bind, error.to_string())))
            .collect()
    }

    /// `yields` says whether clients of a frontend whose port is taken are meant for whoever has it.
    pub fn problems(&self, yields: impl Fn(&Bind) -> bool) -> Vec<Problem> {
        let listeners = self.listeners.problems(yields);
        let ways = self.vips.problems().chain(self.transparent.problems());
        listeners.chain(ways).chain(self.neighbours.problems()).collect()
    }
}
