//! Names as numbers: keyed hashes that every node computes alike and no stranger can aim at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Family;

/// Computes the tags of one cluster.
#[derive(Clone)]
pub struct Identity {
    key: [u8; 32],
}

/// A node's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeTag {
    /// Never 0, which is no node.
    pub tag: u16,
    /// Another node's name came first: until everyone knows, this tag means that other node to some.
    pub displaced: bool,
}

impl Identity {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A task of a service, whatever port and family.
    pub fn backend(&self, service: &str, task: &str) -> u64 {
        self.tag(b'b', &[service.as_bytes(), task.as_bytes()])
    }

    /// A task of a service, serving one port over one family: the instance, never its address.
    pub fn member(&self, service: &str, task: &str, target_port: u16, family: Family) -> u64 {
        let port = target_port.to_be_bytes();
        self.tag(
            b'm',
            &[service.as_bytes(), task.as_bytes(), &port, &[family as u8]],
        )
    }

    /// The members of a service for one port and one family.
    pub fn pool(&self, service: &str, target_port: u16, family: Family) -> u64 {
        self.tag(
            b'p',
            &[service.as_bytes(), &target_port.to_be_bytes(), &[family as u8]],
        )
    }

    /// Where in a pool the service's `attempt`th candidate for a VIP lies.
    pub fn vip(&self, service: &str, family: Family, attempt: u32) -> u64 {
        self.tag(
            b'v',
            &[service.as_bytes(), &[family as u8], &attempt.to_be_bytes()],
        )
    }

    /// Tags of all nodes: 16 bits of a hash of the name; of two that collide the later name takes the next free tag.
    /// Beyond 65,535 nodes the last names get none.
    pub fn nodes<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> BTreeMap<Arc<str>, NodeTag> {
        let names: BTreeSet<&Arc<str>> = names.into_iter().collect();
        let mut taken = BTreeSet::new();
        let mut tags = BTreeMap::new();
        for name in names {
            let wanted = (self.tag(b'n', &[name.as_bytes()]) as u16).max(1);
            let free = (0..u16::MAX)
                .map(|step| probe(wanted, step))
                .find(|tag| !taken.contains(tag));
            if let Some(tag) = free {
                taken.insert(tag);
                tags.insert(
                    Arc::clone(name),
                    NodeTag {
                        tag,
                        displaced: tag != wanted,
                    },
                );
            }
        }
        tags
    }

    /// Each part goes in with its length, so that parts cannot run into each other; 0 stays free to mean "none".
    fn tag(&self, kind: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[kind]);
        for part in parts {
            hasher.update(&(part.len() as u32).to_le_bytes());
            hasher.update(part);
        }
        let mut tag = [0; 8];
        hasher.finalize_xof().fill(&mut tag);
        u64::from_le_bytes(tag).max(1)
    }
}

/// The `step`th tag after `wanted`, in the circle 1 to 65535.
fn probe(wanted: u16, step: u16) -> u16 {
    ((u32::from(wanted) - 1 + u32::from(step)) % u32::from(u16::MAX) + 1) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> Identity {
        Identity::new([7; 32])
    }

    #[test]
    fn a_task_has_a_tag_for_every_service_port_and_family() {
        let id = identity();
        let tags = BTreeSet::from([
            id.member("web", "web.1", 80, Family::V4),
            id.member("web", "web.1", 80, Family::V6),
            id.member("web", "web.1", 81, Family::V4),
            id.member("web", "web.2", 80, Family::V4),
            id.member("api", "web.1", 80, Family::V4),
            id.member("webw", "eb.1", 80, Family::V4),
            id.backend("web", "web.1"),
        ]);
        assert_eq!(tags.len(), 7);
    }

    #[test]
    fn two_clusters_have_nothing_in_common() {
        let other = Identity::new([8; 32]);
        assert_ne!(
            identity().pool("web", 80, Family::V4),
            other.pool("web", 80, Family::V4)
        );
    }

    #[test]
    fn tags_go_round_and_leave_zero_out() {
        assert_eq!(probe(65535, 0), 65535);
        assert_eq!(probe(65535, 1), 1);
        assert_eq!(probe(1, u16::MAX - 1), 65535);
    }

    #[test]
    fn of_two_names_that_collide_the_later_one_moves() {
        let id = identity();
        // Among 2000 names the birthday paradox gives some thirty collisions.
        let names: Vec<Arc<str>> = (0..2000).map(|n| format!("node{n:04}").into()).collect();
        let tags = id.nodes(&names);
        let displaced = tags.values().filter(|tag| tag.displaced).count();
        assert!((5..100).contains(&displaced), "{displaced}");
        let distinct: BTreeSet<u16> = tags.values().map(|tag| tag.tag).collect();
        assert_eq!(distinct.len(), 2000);
    }

    proptest! {
        #[test]
        fn node_tags_do_not_depend_on_the_order_of_names(
            names in proptest::collection::btree_set("[a-z]{1,3}", 0..200),
        ) {
            let forwards: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
            let backwards: Vec<Arc<str>> = forwards.iter().rev().cloned().collect();
            prop_assert_eq!(identity().nodes(&forwards), identity().nodes(&backwards));
        }
    }
}
