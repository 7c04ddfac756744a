//! What the tables say while nodes are suspected.

use std::sync::Arc;

use aya::maps::{Array, Map, MapData};
use lb_common::Plain;
use lb_common::table::{BLOCK, ChainSlot, HeadBlock, Member, NO_MEMBER, NO_TABLE, Pool};
use lb_userspace::model::Snapshot;

use crate::machine::{self, Machine, Raw, pinned};

const NODES: &str = "nodes: { here: 192.0.2.1, there: 192.0.2.2, beyond: 192.0.2.3 }\nservices:\n  web:\n    \
                     slots: 1024\n    ports: [\"8080:80/tcp\"]\n    backends:\n";

pub fn file(backends: &[(&str, &str)]) -> String {
    let mut text = NODES.to_owned();
    for (number, (node, more)) in backends.iter().enumerate() {
        let address = number + 2;
        text += &format!("      - {{ node: {node}, address: 172.18.0.{address}, task: t{number}{more} }}\n");
    }
    text
}

/// The same, as long as these nodes are suspected; everything else is shared.
fn suspecting(snapshot: &Snapshot, nodes: &[&str]) -> Arc<Snapshot> {
    let mut snapshot = snapshot.clone();
    for node in snapshot.nodes.values_mut() {
        node.suspected = nodes.contains(&&*node.name);
    }
    Arc::new(snapshot)
}

pub fn tag(snapshot: &Snapshot, node: &str) -> u16 {
    snapshot.nodes[node].tag
}

pub fn array<T: Plain>(name: &str) -> Array<MapData, Raw<T>> {
    Array::try_from(Map::from_map_data(pinned(name)).unwrap()).unwrap()
}

/// The nodes of each slot's chain, where the pool has any here.
pub fn chains(pool: &Pool) -> Vec<[u16; 6]> {
    if pool.chain == NO_TABLE {
        return Vec::new();
    }
    let chains = array::<ChainSlot>("CHAIN");
    let chain = |slot| chains.get(&(pool.chain + slot), 0).unwrap().0.nodes;
    (0..pool.slots).map(chain).collect()
}

/// The only pool's tables: its entry, its heads and its fresh heads as tags of nodes, its chains.
struct Shown {
    pool: Pool,
    heads: Vec<u16>,
    fresh: Vec<u16>,
    chains: Vec<[u16; 6]>,
}

impl Shown {
    fn of(machine: &Machine) -> Self {
        let pool = machine.pools()[0].1;
        let (blocks, members) = (array::<HeadBlock>("HEAD"), array::<Member>("MEMBER"));
        let heads = |first: u32| -> Vec<u16> {
            let slots =
                (0..pool.slots / BLOCK).flat_map(|block| blocks.get(&(first + block), 0).unwrap().0.member);
            slots
                .map(|offset| {
                    assert_ne!(offset, NO_MEMBER);
                    members
                        .get(&(pool.members + u32::from(offset)), 0)
                        .unwrap()
                        .0
                        .node
                })
                .collect()
        };
        Self {
            pool,
            heads: heads(pool.head),
            fresh: heads(pool.fresh),
            chains: chains(&pool),
        }
    }

    fn diverts(&self) -> bool {
        self.pool.fresh != self.pool.head
    }
}

#[test]
fn a_suspected_node_is_asked_last_and_gets_no_new_connections() {
    machine::run(
        "a_suspected_node_is_asked_last_and_gets_no_new_connections",
        |machine| {
            let plane = machine.start("");
            let all = ["here", "there", "beyond", "here", "there", "beyond"].map(|node| (node, ""));
            let snapshot = machine.snapshot(&file(&all));
            let there = tag(&snapshot, "there");
            plane.apply(&snapshot).unwrap();
            let before = Shown::of(&machine);
            assert!(!before.diverts());
            assert!(before.chains.iter().any(|chain| chain[0] == there));

            plane.apply(&suspecting(&snapshot, &["there"])).unwrap();
            let during = Shown::of(&machine);
            assert!(during.diverts());
            assert_eq!(
                during.heads, before.heads,
                "later packets know no suspicion but by the node's mark"
            );
            for (&fresh, &head) in during.fresh.iter().zip(&before.heads) {
                assert!(fresh != there && (fresh == head || head == there));
            }
            for (during, before) in during.chains.iter().zip(&before.chains) {
                let mut others = before.to_vec();
                others.retain(|&node| node != there && node != 0);
                assert_eq!(during[..2], others);
                assert_eq!(during[2..], [there, 0, 0, 0]);
            }

            plane.apply(&snapshot).unwrap();
            let after = Shown::of(&machine);
            assert!(!after.diverts());
            assert_eq!((after.heads, after.chains), (before.heads, before.chains));
        },
    );
}

#[test]
fn when_all_other_nodes_are_suspected_this_one_serves_if_it_can() {
    machine::run(
        "when_all_other_nodes_are_suspected_this_one_serves_if_it_can",
        |machine| {
            let plane = machine.start("");
            let others = ["there", "beyond"];
            let here = |text: &str| {
                let snapshot = machine.snapshot(text);
                plane.apply(&snapshot).unwrap();
                plane.apply(&suspecting(&snapshot, &others)).unwrap();
                (Shown::of(&machine), tag(&snapshot, "here"))
            };
            let (shown, this) = here(&file(&[("here", ""), ("there", ""), ("beyond", "")]));
            assert!(shown.diverts() && shown.fresh.iter().all(|&node| node == this));
            // Otherwise as if nobody was: this node has nothing better, and it may be the one that is cut off.
            let (shown, _) = here(&file(&[("there", ""), ("beyond", "")]));
            assert!(!shown.diverts());
            let (shown, this) = here(&file(&[
                ("here", ", state: draining"),
                ("there", ""),
                ("beyond", ""),
            ]));
            assert!(!shown.diverts() && shown.heads.iter().all(|&node| node != this));
        },
    );
}

#[test]
fn members_that_come_and_go_while_a_node_is_suspected_find_the_tables_so() {
    machine::run(
        "members_that_come_and_go_while_a_node_is_suspected_find_the_tables_so",
        |machine| {
            let plane = machine.start("");
            let few = machine.snapshot(&file(&[("here", ""), ("there", "")]));
            plane.apply(&suspecting(&few, &["there"])).unwrap();
            let more = machine.snapshot(&file(&[
                ("here", ""),
                ("there", ""),
                ("beyond", ""),
                ("here", ""),
            ]));
            plane.apply(&suspecting(&more, &["there"])).unwrap();
            let (shown, there) = (Shown::of(&machine), tag(&more, "there"));
            assert!(shown.diverts() && shown.fresh.iter().all(|&node| node != there));
            assert!(shown.chains.iter().all(|chain| chain[2] == there));
            // It has gone for good, and its room is given back.
            let without = machine.snapshot(&file(&[("here", ""), ("beyond", "")]));
            plane.apply(&suspecting(&without, &["there"])).unwrap();
            assert!(!Shown::of(&machine).diverts());
        },
    );
}
