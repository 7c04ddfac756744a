//! `NODE`, `PEER4`, `UPLINK` and `SETTINGS`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::table::{Node, Settings, Uplink};
use lb_common::{V4, V6};

use super::{Tables, tick};
use crate::plane::EbpfError;

impl Tables {
    /// Writes the nodes that changed, and removes those that are gone.
    pub fn set_nodes(&mut self, nodes: HashMap<u16, Node>) -> Result<(), EbpfError> {
        for (&tag, &node) in &nodes {
            if self.nodes.get(&tag) != Some(&node) {
                self.maps.node.set(tag.into(), node)?;
            }
        }
        for &tag in self.nodes.keys().filter(|tag| !nodes.contains_key(tag)) {
            self.maps.node.set(tag.into(), Node::default())?;
        }
        self.nodes = nodes;
        Ok(())
    }

    /// Who may send through the tunnel.
    pub fn set_peers(&mut self, peers: HashMap<V4, u16>) -> Result<(), EbpfError> {
        for (&address, &tag) in &peers {
            if self.peers.get(&address) != Some(&tag) {
                self.maps.peer.set(address, tag)?;
            }
        }
        for address in self.peers.keys().filter(|address| !peers.contains_key(*address)) {
            self.maps.peer.remove(address)?;
        }
        self.peers = peers;
        Ok(())
    }

    /// The uplinks by the last byte of their index.
    pub fn set_uplinks(&mut self, uplinks: HashMap<u32, Uplink>) -> Result<(), EbpfError> {
        for byte in 0..256 {
            let wanted = uplinks.get(&byte).copied();
            if self.uplinks.get(&byte).copied() != wanted {
                self.maps.uplink.set(byte, wanted.unwrap_or_default())?;
            }
        }
        self.uplinks = uplinks;
        Ok(())
    }

    pub fn set_settings(&mut self, settings: Settings) -> Result<(), EbpfError> {
        if self.settings != Some(settings) {
            self.settings = Some(settings);
            self.beat()?;
        }
        Ok(())
    }

    /// Tells the programs that the tables are kept. Before the first snapshot that is still as an agent before this one has left
    /// it: it may have died long ago, and it may have handed over a moment ago.
    pub fn beat(&mut self) -> Result<(), EbpfError> {
        let Some(settings) = self.settings else {
            return Ok(());
        };
        let alive = match self.applied {
            Some(_) => tick(),
            None => self.maps.settings.get(0)?.alive,
        };
        self.maps.settings.set(0, Settings { alive, ..settings })
    }

    /// As they are.
    pub fn nodes(&self) -> impl Iterator<Item = (u16, Node)> + '_ {
        self.nodes.iter().map(|(&tag, &node)| (tag, node))
    }

    /// This node's IPv6 address for clients that cannot keep theirs.
    pub fn source6(&self) -> V6 {
        self.settings.map(|settings| settings.source6).unwrap_or_default()
    }

    /// The largest packet that fits the tunnel to every node; `None` in a cluster of one.
    pub fn tunnel_mtu(&self) -> Option<u32> {
        let segment = self.settings?.mss4;
        (segment > 0).then_some(u32::from(segment) + 40)
    }

    /// Networks in which an address means the same on every node.
    pub fn flat(&self) -> &[IpNet] {
        &self.flat
    }

    /// Takes the nodes that new connections go around; gives those that were not suspected before, or are not any more.
    pub(super) fn set_suspected(&mut self, suspected: BTreeSet<u16>) -> BTreeSet<u16> {
        let before = std::mem::replace(&mut self.suspected, suspected);
        before.symmetric_difference(&self.suspected).copied().collect()
    }

    /// Takes the nodes whose tasks only the proxy reaches; gives those of which that is news.
    pub(super) fn set_by_proxy(&mut self, by_proxy: BTreeSet<u16>) -> BTreeSet<u16> {
        let before = std::mem::replace(&mut self.by_proxy, by_proxy);
        &before ^ &self.by_proxy
    }

    /// Whether the cluster has nodes with and without packet programs.
    pub(super) fn is_mixed(&self) -> bool {
        !self.by_proxy.is_empty()
    }

    /// Takes where the proxy cannot serve; gives where that is news.
    pub(super) fn set_taken(&mut self, taken: BTreeSet<(IpAddr, u16, u8)>) -> BTreeSet<(IpAddr, u16, u8)> {
        let before = std::mem::replace(&mut self.taken, taken);
        &before ^ &self.taken
    }
}
