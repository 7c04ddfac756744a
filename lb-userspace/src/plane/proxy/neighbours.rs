//! Addresses of tasks are used again by others, at other link-layer addresses. The kernel goes on to send to the one before for
//! seconds (RFC 4861, section 7.3.3), where nothing tells it: a new IPv6 task asks nobody before it is asked. So what the
//! kernel knows of a new task's address is forgotten.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use futures_util::stream::TryStreamExt;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::{IpVersion, new_connection};

use crate::model::Snapshot;

/// Tags of this node's members, as of the snapshot before; `None` before the first, whose tasks are as they were.
#[derive(Debug, Default)]
pub struct Neighbours(Option<HashSet<u64>>);

impl Neighbours {
    /// Forgets what is known of the addresses of tasks that are new on `node`.
    pub async fn follow(&mut self, snapshot: &Snapshot, node: &str) {
        let members = snapshot.pools.iter().flat_map(|pool| &pool.members);
        let here: Vec<_> = members.filter(|member| &*member.node == node).collect();
        let tags = here.iter().map(|member| member.candidate.tag).collect();
        let Some(before) = self.0.replace(tags) else {
            return;
        };
        let new = here
            .iter()
            .filter(|member| !before.contains(&member.candidate.tag));
        let addresses: HashSet<Ipv6Addr> = new
            .filter_map(|member| match member.address {
                IpAddr::V6(address) => Some(address),
                // ARP is heard by everybody on the link.
                IpAddr::V4(_) => None,
            })
            .collect();
        if !addresses.is_empty()
            && let Err(error) = forget(&addresses).await
        {
            tracing::debug!(%error, "the kernel's neighbours stay as they are");
        }
    }
}

async fn forget(addresses: &HashSet<Ipv6Addr>) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) =
        new_connection().map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
    tokio::spawn(connection);
    let mut all = handle.neighbours().get().set_family(IpVersion::V6).execute();
    let mut stale = Vec::new();
    while let Some(neighbour) = all.try_next().await? {
        if address(&neighbour).is_some_and(|address| addresses.contains(&address)) {
            stale.push(neighbour);
        }
    }
    for neighbour in stale {
        // One that has gone by itself is gone all the same.
        let _ = handle.neighbours().del(neighbour).execute().await;
    }
    Ok(())
}

fn address(neighbour: &NeighbourMessage) -> Option<Ipv6Addr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(*address),
        _ => None,
    })
}
