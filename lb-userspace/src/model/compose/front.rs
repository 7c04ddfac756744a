//! Where a service answers.

use std::collections::HashSet;
use std::net::IpAddr;

use super::super::vips::Vips;
use super::super::{Backend, DesiredService, Family, Frontend, is_served};

/// Addresses and frontends of a service.
pub struct Front {
    pub vips: Vec<IpAddr>,
    pub missed_vips: Vec<Family>,
    pub frontends: Vec<Frontend>,
}

/// What it publishes, and at its VIPs the ports of its tasks.
///
/// An address from the pools stays the service's, but is not in use while only the other family has tasks: nobody could
/// answer there, and names would lead to it.
pub fn front(vips: &Vips, name: &str, desired: &DesiredService, backends: &[Backend]) -> Front {
    let served = |family| is_served(backends, family);
    let grant = vips.grant(name).cloned().unwrap_or_default();
    let granted = grant.vips.into_iter().filter(|vip| served(Family::of(*vip)));
    let own: Vec<IpAddr> = desired.vips.iter().copied().chain(granted).collect();
    let mut frontends = desired.frontends.clone();
    for &vip in own.iter().filter(|vip| !vips.is_shared(**vip)) {
        let at_vip = desired
            .frontends
            .iter()
            .filter(|published| published.address == Some(vip));
        let published: HashSet<_> = at_vip
            .map(|published| (published.port, published.protocol))
            .collect();
        let exposed = desired
            .exposed
            .iter()
            .filter(|exposed| !published.contains(&(exposed.port, exposed.protocol)));
        frontends.extend(exposed.map(|exposed| Frontend {
            address: Some(vip),
            port: exposed.port,
            protocol: exposed.protocol,
            target_port: exposed.port,
            // What the source brings is an address that somebody outside may be told.
            inside: !desired.vips.contains(&vip),
            held: false,
        }));
    }
    Front {
        vips: own,
        missed_vips: grant
            .missed
            .into_iter()
            .filter(|family| served(*family))
            .collect(),
        frontends,
    }
}
