//! What the kernel, and tasks of this node, know of each other's link-layer addresses, and what changes of it.
//!
//! Addresses of tasks are used again by others, at other link-layer addresses. The kernel goes on to send to the one before for
//! seconds (RFC 4861, section 7.3.3), where nothing tells it: a new IPv6 task asks nobody before it is asked. So what the
//! kernel knows of a new task's address is forgotten.

mod bridges;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::stream::TryStreamExt;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use self::bridges::Bridges;
use crate::model::Snapshot;
use crate::plane::Problem;
use crate::plane::netlink;

/// A task of this node.
type Task = (Arc<str>, IpAddr);

/// As of the snapshot before.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// `None` before the first, whose tasks are as they were.
    tasks: Option<HashSet<Task>>,
    bridges: Bridges,
}

impl Neighbours {
    /// Forgets what is known of the addresses of tasks that are new on `node`, and sees to their bridges.
    pub async fn follow(&mut self, snapshot: &Snapshot, node: &str) {
        let (tasks, is_first) = (of(snapshot, node), self.tasks.is_none());
        let new: HashSet<IpAddr> = new(self.tasks.as_ref(), &tasks);
        self.bridges.follow(&tasks, &new).await;
        self.tasks = Some(tasks);
        // ARP is heard by everybody on the link.
        let has_ipv6 = new.iter().any(IpAddr::is_ipv6);
        if has_ipv6
            && !is_first
            && let Err(error) = forget(&new).await
        {
            tracing::debug!(%error, "the kernel's neighbours stay as they are");
        }
    }

    /// Does what is left to be done.
    pub async fn mend(&mut self) {
        self.bridges.mend().await;
    }

    pub fn are_settled(&self) -> bool {
        self.bridges.are_settled()
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.bridges.problems()
    }
}

fn of(snapshot: &Snapshot, node: &str) -> HashSet<Task> {
    let members = snapshot.pools.iter().flat_map(|pool| &pool.members);
    let here = members.filter(|member| &*member.node == node);
    here.map(|member| (Arc::clone(&member.task), member.address))
        .collect()
}

/// Addresses that are others' than before. A task that only serves at one more port is where it was.
fn new(before: Option<&HashSet<Task>>, tasks: &HashSet<Task>) -> HashSet<IpAddr> {
    let known = |task: &Task| before.is_some_and(|before| before.contains(task));
    let new = tasks.iter().filter(|task| !known(task));
    new.map(|(_, address)| *address).collect()
}

async fn forget(addresses: &HashSet<IpAddr>) -> Result<(), rtnetlink::Error> {
    let handle = netlink::connect()?;
    let mut all = handle.neighbours().get().set_family(IpVersion::V6).execute();
    let mut stale = Vec::new();
    while let Some(neighbour) = all.try_next().await? {
        if is_learnt(&neighbour) && address(&neighbour).is_some_and(|address| addresses.contains(&address)) {
            stale.push(neighbour);
        }
    }
    for neighbour in stale {
        // One that has gone by itself is gone all the same.
        let _ = handle.neighbours().del(neighbour).execute().await;
    }
    Ok(())
}

/// Not what somebody has set, nor what needs no asking.
fn is_learnt(neighbour: &NeighbourMessage) -> bool {
    !matches!(
        neighbour.header.state,
        NeighbourState::Permanent | NeighbourState::Noarp
    )
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::fronts::tests::snapshot;

    #[test]
    fn an_address_is_new_when_another_task_has_it_and_not_when_a_task_serves_at_another_port() {
        let one = snapshot(&["2001:db8:18::2"]);
        let before = of(&one, "node1");
        assert_eq!(before.len(), 1);
        assert_eq!(new(None, &before).len(), 1);
        let mut more = one;
        let mut other = (*more.pools[1]).clone();
        other.target_port += 1;
        other.members[0].candidate.tag += 1;
        more.pools.push(Arc::new(other.clone()));
        assert!(new(Some(&before), &of(&more, "node1")).is_empty());
        other.members[0].task = "another".into();
        more.pools.push(Arc::new(other));
        let address: IpAddr = "2001:db8:18::2".parse().unwrap();
        assert_eq!(new(Some(&before), &of(&more, "node1")), [address].into());
    }

    #[test]
    fn what_an_operator_has_set_is_not_forgotten() {
        let mut neighbour = NeighbourMessage::default();
        for (state, learnt) in [
            (NeighbourState::Stale, true),
            (NeighbourState::Reachable, true),
            (NeighbourState::Permanent, false),
            (NeighbourState::Noarp, false),
        ] {
            neighbour.header.state = state;
            assert_eq!(is_learnt(&neighbour), learnt);
        }
    }
}
