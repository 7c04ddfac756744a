//! The nodes as they stand: tags, drains, suspicions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::identity::NodeTag;
use super::super::marks::{DrainObject, Marks};
use super::super::{DesiredNode, Identity, Node};

#[derive(Default)]
pub struct Nodes {
    pub nodes: BTreeMap<Arc<str>, Node>,
    pub tags: BTreeMap<Arc<str>, NodeTag>,
}

/// All nodes that are wanted, with what is marked of them.
pub fn stand(identity: &Identity, wanted: &BTreeMap<Arc<str>, DesiredNode>, marks: &Marks) -> Nodes {
    let tags = identity.nodes(wanted.keys());
    let nodes = tags
        .iter()
        .filter_map(|(name, NodeTag { tag, .. })| {
            let desired = wanted.get(name)?;
            let drained = marks.drains.is_drained(&DrainObject::Node(Arc::clone(name)));
            let node = Node {
                name: Arc::clone(name),
                tag: *tag,
                address: desired.address,
                draining: desired.draining || drained,
                suspected: marks.suspected.contains(name),
                by_proxy: marks.by_proxy.contains(name),
            };
            Some((Arc::clone(name), node))
        })
        .collect();
    Nodes { nodes, tags }
}

impl Nodes {
    /// Whether no backend stands differently because of its node.
    pub fn same_for_backends(&self, before: &Self) -> bool {
        let matter = |node: &Node| (node.tag, node.draining);
        self.tags == before.tags
            && self
                .nodes
                .values()
                .map(matter)
                .eq(before.nodes.values().map(matter))
    }
}
