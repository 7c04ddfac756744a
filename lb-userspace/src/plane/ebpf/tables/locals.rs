//! `LOCAL`: the members whose tasks run on this node. What is not in it is gone, and its flows with it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::placement::State;
use lb_common::table::{Local, local_state, namespace};
use lb_common::{Address, V4};

use super::super::maps::Maps;
use super::Tables;
use crate::model::{Change, Member, Pool, Service, Standing};
use crate::plane::EbpfError;

/// Where a task is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// As [`Local::ifindex`].
    pub device: u32,
    /// As [`Local::namespace`].
    pub namespace: i32,
    /// Length of the task's subnet.
    pub prefix: u8,
}

impl Tables {
    /// Writes the pool's members on this node.
    pub(super) fn put_locals(
        &mut self,
        pool: &Arc<Pool>,
        number: u32,
        service: Option<&Arc<Service>>,
    ) -> Result<(), EbpfError> {
        let node = Arc::clone(&self.node);
        let mut fits = true;
        for member in pool.members.iter().filter(|member| member.node == node) {
            let hooked = self.hooks.get(&member.address);
            let local = Local {
                address: wide(member.address),
                ifindex: hooked.map_or(0, |hooked| hooked.device),
                namespace: hooked.map_or(namespace::UNKNOWN, |hooked| hooked.namespace),
                deaf_since: 0,
                pool: number,
                port: pool.target_port.to_be_bytes(),
                state: state(member, service.map(Arc::as_ref)),
                prefix: hooked.map_or(if member.address.is_ipv4() { 32 } else { 128 }, |hooked| {
                    hooked.prefix
                }),
            };
            fits &= self.put_local(member.candidate.tag, local)?;
            self.homes.insert(member.candidate.tag, member.address);
        }
        if !fits {
            let change = Change {
                pool: Arc::clone(pool),
                service: service.cloned(),
            };
            self.refuse(&change, "members", self.limits.members);
        }
        Ok(())
    }

    /// The programs own `deaf_since`: it is kept. False where there is no room.
    fn put_local(&mut self, tag: u64, local: Local) -> Result<bool, EbpfError> {
        if self.locals.get(&tag) == Some(&local) {
            return Ok(true);
        }
        let deaf_since = self.maps.local.get(&tag)?.map_or(0, |found| found.deaf_since);
        let fits = self.maps.local.put(tag, Local { deaf_since, ..local })?;
        if fits {
            self.locals.insert(tag, local);
        }
        Ok(fits)
    }

    /// Removes the members that `wanted` does not have.
    pub(super) fn remove_locals(&mut self, gone: impl IntoIterator<Item = u64>) -> Result<(), EbpfError> {
        for tag in gone {
            self.homes.remove(&tag);
            if self.locals.remove(&tag).is_some() {
                self.maps.local.remove(&tag)?;
            }
        }
        Ok(())
    }

    /// Addresses of all tasks that run here.
    pub fn task_addresses(&self) -> BTreeSet<IpAddr> {
        self.homes.values().copied().collect()
    }

    /// Where tasks were found; writes what changed.
    pub fn set_hooks(&mut self, hooks: HashMap<IpAddr, Hooked>) -> Result<(), EbpfError> {
        if self.hooks == hooks {
            return Ok(());
        }
        let touched = |address: &IpAddr| self.hooks.get(address) != hooks.get(address);
        let pools: Vec<_> = self
            .books
            .values()
            .filter_map(|book| Some((book.number, book.pool.clone()?, book.service.clone())))
            .filter(|(_, pool, _)| {
                pool.members
                    .iter()
                    .any(|member| member.node == self.node && touched(&member.address))
            })
            .collect();
        self.hooks = hooks;
        for (number, pool, service) in pools {
            self.put_locals(&pool, number, service.as_ref())?;
            self.reflag(pool.id)?;
        }
        Ok(())
    }

    /// Where tasks are, or were when the agent before this one looked.
    pub fn hooks(&self) -> &HashMap<IpAddr, Hooked> {
        &self.hooks
    }

    /// The maps, and the members that are here, for expiry.
    pub fn flows(&mut self) -> (&mut Maps, &HashMap<u64, Local>) {
        (&mut self.maps, &self.locals)
    }
}

/// How the service has the member's task.
pub(super) fn standing(member: &Member, service: Option<&Service>) -> Option<Standing> {
    let mut backends = service?.backends.iter();
    let backend = backends.find(|backend| backend.task == member.task)?;
    Some(backend.standing)
}

fn state(member: &Member, service: Option<&Service>) -> u8 {
    match (member.candidate.state, standing(member, service)) {
        (_, Some(Standing::Unhealthy)) => local_state::UNHEALTHY,
        (State::Warming, _) => local_state::WARMING,
        (State::Active, _) => local_state::ACTIVE,
        (State::Draining, _) => local_state::DRAINING,
    }
}

/// An address as the tables have it.
pub(in super::super) fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => Address::widen(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The reverse; the tables do not say the family, so the pool's must be known.
pub(in super::super) fn narrow(wide: [u8; 16], v4: bool) -> IpAddr {
    if v4 {
        IpAddr::from(V4::narrow(wide))
    } else {
        IpAddr::from(wide)
    }
}
