//! Who has an address.

use std::net::IpAddr;
use std::sync::Arc;

use dns::Reverse;

use super::index::{Index, Owner};
use super::visibility::Sight;

impl Index {
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.addresses
            .get(&address)
            .iter()
            .any(|owner| owner.task.is_none())
    }

    pub fn reverse(&self, sight: Sight<'_>, address: IpAddr) -> Reverse {
        if self.addresses.get(&address).is_empty() {
            return Reverse::Unknown;
        }
        let owner = self.owner(sight, address);
        let pointer = owner.and_then(|owner| owner.part.pointer(owner.task));
        pointer.map_or(Reverse::Hidden, |pointer| Reverse::Found(Arc::new(pointer)))
    }

    /// A VIP is its service's everywhere. The address of a task is meant as it is understood on this node; tasks of other
    /// nodes are named only where one alone has it, for where subnets repeat nobody here can reach them by it.
    pub fn owner(&self, sight: Sight<'_>, address: IpAddr) -> Option<&Owner> {
        let owners = self.addresses.get(&address);
        let seen = || owners.iter().filter(move |owner| sight.part(&owner.part));
        let of_vip = |owner: &&Owner| owner.task.is_none() && owner.part.can_be_asked_for();
        let vip = seen().filter(of_vip).min_by_key(key);
        let here = || seen().filter(|owner| owner.here).min_by_key(key);
        let elsewhere = || seen().next().filter(|_| owners.len() == 1);
        vip.or_else(here).or_else(elsewhere)
    }
}

fn key<'i>(owner: &&'i Owner) -> (&'i str, Option<usize>) {
    (&owner.part.name, owner.task)
}
