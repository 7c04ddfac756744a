//! The plane's side: what is known goes in, steps come out, and what the kernel refused is said.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use lb_common::host::{NODE_VIP4, NODE_VIP6};

use super::{Pair, Step, View, pair, whole};
use crate::model::Snapshot;
use crate::plane::ebpf::links::Place;
use crate::plane::ebpf::state::State;
use crate::plane::{Portico0Report, Problem};

impl State {
    /// What is to be done to `portico0` after the last look at the machine.
    pub fn tend(&mut self) -> Vec<Step> {
        let uplinks: HashSet<u8> = self.uplinks.iter().map(|uplink| uplink.index as u8).collect();
        let view = View {
            host: &self.host,
            snapshot: self.tables.applied().map(|snapshot| &**snapshot),
            own: &self.node,
            uplinks,
            mtu: self.tables.tunnel_mtu(),
        };
        let (steps, problems) = self.portico0.plan(&view);
        self.problems.insert("portico0", problems);
        steps
    }

    /// What the kernel refused, by step.
    pub fn tended(&mut self, refused: &[(Step, String)]) {
        let problems = refused.iter().map(|(step, reason)| {
            tracing::debug!(?step, reason, "portico0 is not as it should be");
            Problem {
                error: format!("cannot set portico0 up: {step:?}: {reason}"),
                traffic: "processes of this node may not reach VIPs; clients from outside and tasks do"
                    .into(),
                fix: "it is tried again every second; see what else changes the device or its routes".into(),
            }
        });
        self.problems
            .insert("portico0 refused", problems.take(1).collect());
    }

    /// The VIPs of a snapshot need routes.
    pub fn note_vips(&mut self, snapshot: &Snapshot) {
        let fronts = || snapshot.services.values().flat_map(|service| &service.frontends);
        let vips: HashSet<IpAddr> = fronts().filter_map(|front| front.address).collect();
        let announced = fronts().filter(|front| !front.inside);
        self.portico0
            .set_vips(vips, announced.filter_map(|front| front.address).collect());
    }

    /// The pair, where both ends are up.
    pub fn portico0_pair(&self) -> Option<Pair> {
        let pair = pair(&self.host)?;
        let up = |index| self.host.devices.get(&index).is_some_and(|device| device.up);
        (up(pair.front) && up(pair.back)).then_some(pair)
    }

    /// VIPs of the node whose packets come out at an end that is served.
    pub fn routed_vips(&self) -> BTreeSet<IpAddr> {
        let served = |pair: &Pair| self.links.has(Place::Task(pair.back));
        let Some(pair) = self.portico0_pair().filter(served) else {
            return BTreeSet::new();
        };
        let routes = self.host.table.iter();
        routes
            .filter(|route| route.ours && route.device == Some(pair.front))
            .filter(|route| route.net.prefix_len() == whole(route.net.addr()))
            .map(|route| route.net.addr())
            .filter(|vip| [NODE_VIP4.into(), NODE_VIP6.into()].contains(vip))
            .collect()
    }

    pub fn portico0_report(&self) -> Portico0Report {
        let attached = self
            .portico0_pair()
            .is_some_and(|pair| self.links.has(Place::Task(pair.back)));
        Portico0Report {
            attached,
            ..self.portico0.report().clone()
        }
    }
}
