//! One container as a backend: whether it is there, what its state means, and where it is reached.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::member::Member;
use crate::model::validate::is_host_name;
use crate::model::{Attachment, DesiredBackend, Family, Stamps};
use crate::source::engine::Container;
use crate::source::engine::local::GATEWAY;

/// The node that all of this source's containers are on.
pub struct Here {
    pub node: Arc<str>,
    /// `None` where the machine has no address that others could use.
    pub address: Option<Ipv4Addr>,
}

/// The backend, where new or old connections could reach it at all.
pub fn backend(member: &Member, here: &Here) -> Option<DesiredBackend> {
    let container = &*member.container;
    let readiness = container.readiness()?;
    let addresses = addresses(container, member.settings.network.as_deref(), here);
    if addresses.is_empty() || here.address.is_none() {
        return None;
    }
    let name = Some(&container.name).filter(|name| is_host_name(name));
    Some(DesiredBackend {
        task: Arc::clone(&member.task),
        names: name.into_iter().cloned().collect(),
        node: Arc::clone(&here.node),
        addresses,
        attachments: attachments(container),
        weight: member.settings.weight,
        readiness,
        stamps: Stamps::UNKNOWN,
    })
}

/// Where its node delivers to it: on the network that a label names, else on the one that its default route leads to, for
/// what it answers goes there.
fn addresses(container: &Container, network: Option<&str>, here: &Here) -> Vec<IpAddr> {
    if container.host {
        return here.address.map(IpAddr::V4).into_iter().collect();
    }
    let mut ways = container.ways();
    if let Some(named) = network.and_then(|network| ways.iter().position(|(name, _)| ***name == *network)) {
        ways = vec![ways[named]];
    }
    let of = |family| {
        let mut addresses = ways.iter().flat_map(|(_, joined)| &joined.addresses);
        addresses.find(|address| Family::of(**address) == family).copied()
    };
    Family::ALL.into_iter().filter_map(of).collect()
}

/// Where the container is found by those who share a network with it.
fn attachments(container: &Container) -> Vec<Attachment> {
    if container.host {
        return Vec::new();
    }
    let networks = container.networks.iter().filter(|(name, _)| ***name != *GATEWAY);
    networks
        .flat_map(|(network, joined)| {
            joined.addresses.iter().map(|address| Attachment {
                network: Arc::clone(network),
                address: *address,
            })
        })
        .collect()
}
