//! `ASSIGNED`: the addresses that an orchestrator's own mesh has given to services, in networks of its own, and the VIPs that
//! containers are led to from there. Where such a VIP does not answer at the port, they are left where they asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::V4;

use super::Tables;
use crate::model::{Service, Snapshot};
use crate::plane::EbpfError;

impl Tables {
    /// Makes the table say what the snapshot does.
    pub(super) fn put_assigned(&mut self, snapshot: &Snapshot) -> Result<(), EbpfError> {
        let before = self.applied.as_ref().filter(|_| self.assigned_written);
        if before.is_some_and(|before| is_same(before, snapshot)) {
            return Ok(());
        }
        self.assigned_written = false;
        let wanted = wanted(snapshot);
        let gone: Vec<V4> = self
            .assigned
            .keys()
            .filter(|address| !wanted.contains_key(*address))
            .copied()
            .collect();
        for address in gone {
            self.maps.assigned.remove(&address)?;
            self.assigned.remove(&address);
        }
        for (address, vip) in wanted {
            // What has no room is left to the orchestrator's mesh.
            if self.assigned.get(&address) != Some(&vip) && self.maps.assigned.put(address, vip)? {
                self.assigned.insert(address, vip);
            }
        }
        self.assigned_written = true;
        Ok(())
    }
}

/// From where to where; each VIP that is led to leads to itself, by which the programs know what may be an answer.
fn wanted(snapshot: &Snapshot) -> HashMap<V4, V4> {
    let mut wanted = HashMap::new();
    let services = snapshot.services.values();
    let led: Vec<_> = services
        .filter_map(|service| Some((led_to(service)?, &service.assigned)))
        .collect();
    for (vip, assigned) in &led {
        for address in *assigned {
            // Of two that claim an address, the first by name has it.
            wanted.entry(address.octets()).or_insert(*vip);
        }
    }
    wanted.extend(led.iter().map(|(vip, _)| (*vip, *vip)));
    wanted
}

/// A service's own VIP, where containers have to be led there.
fn led_to(service: &Service) -> Option<V4> {
    let first = service.vips.iter().find_map(|vip| match vip {
        IpAddr::V4(vip) => Some(vip.octets()),
        IpAddr::V6(_) => None,
    });
    first.filter(|_| !service.assigned.is_empty())
}

/// Whether both say the same of it; services that they share are not read.
fn is_same(before: &Snapshot, after: &Snapshot) -> bool {
    let mut pairs = before.services.iter().zip(&after.services);
    let same = |before: &Service, after: &Service| {
        before.assigned == after.assigned && led_to(before) == led_to(after)
    };
    before.services.len() == after.services.len()
        && pairs.all(|((name, before), (other, after))| {
            Arc::ptr_eq(before, after) || name == other && same(before, after)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::{service, snapshot};

    fn picture(services: &[(&str, &[&str], &[&str])]) -> Arc<Snapshot> {
        let services = services.iter().map(|(name, vips, assigned)| Service {
            vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
            assigned: assigned.iter().map(|vip| vip.parse().unwrap()).collect(),
            ..service(name, &["front"], Vec::new())
        });
        snapshot(1, services)
    }

    #[test]
    fn assigned_addresses_lead_to_the_services_own_vip_and_that_to_itself() {
        let picture = picture(&[
            ("six", &["fd00::1"], &["10.0.1.9"]),
            ("two", &["fd00::2", "10.254.0.2"], &["10.0.1.2", "10.0.2.2"]),
            ("three", &["10.254.0.3"], &[]),
            ("two-as-well", &["10.254.0.4"], &["10.0.1.2"]),
        ]);
        let own = [10, 254, 0, 2];
        let expected = [
            ([10, 0, 1, 2], own),
            ([10, 0, 2, 2], own),
            (own, own),
            ([10, 254, 0, 4], [10, 254, 0, 4]),
        ];
        assert_eq!(wanted(&picture), expected.into());
    }

    #[test]
    fn what_changes_nothing_is_known_by_what_it_leads_to() {
        let one = picture(&[("a", &["10.254.0.1"], &["10.0.1.2"])]);
        assert!(is_same(
            &one,
            &picture(&[("a", &["10.254.0.1", "fd00::1"], &["10.0.1.2"])])
        ));
        assert!(!is_same(&one, &picture(&[("a", &["10.254.0.2"], &["10.0.1.2"])])));
        assert!(!is_same(&one, &picture(&[("a", &["10.254.0.1"], &[])])));
        assert!(!is_same(&one, &picture(&[])));
    }
}
