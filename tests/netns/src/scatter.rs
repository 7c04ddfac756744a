//! A router that spreads packets instead of connections: the worst that ECMP can do.

use anyhow::Result;

use crate::address;
use crate::cluster::Cluster;
use crate::{tool, topology};

/// Routing tables from here on, one for each node.
const TABLE: usize = 100;

impl Cluster {
    /// Lets the router send each packet to a VIP by the next node in turn, for good.
    pub fn scatter_vips(&self) -> Result<()> {
        let router = self.router();
        let state = &self.state;
        let last = state.uplinks - 1;
        let mut lines = Vec::new();
        for (number, node) in state.nodes.values().enumerate() {
            let (table, by) = (TABLE + number, node.address(last));
            lines.push(format!(
                "route add {} via {} table {table}",
                address::VIPS[0],
                by.v4
            ));
            lines.push(format!(
                "route add {} via {} table {table}",
                address::VIPS[1],
                by.v6
            ));
        }
        tool::ip(Some(router.name()), &lines)?;
        for family in ["-4", "-6"] {
            for number in 0..state.nodes.len() {
                let mut command = router.command("ip")?;
                let (mark, table) = ((number + 1).to_string(), (TABLE + number).to_string());
                tool::run(command.args([family, "rule", "add", "fwmark", &mark, "lookup", &table]))?;
            }
        }
        let count = state.nodes.len();
        let rules = format!(
            "table inet scatter {{
                chain pre {{
                    type filter hook prerouting priority mangle;
                    ip daddr {} meta mark set numgen inc mod {count} offset 1
                    ip6 daddr {} meta mark set numgen inc mod {count} offset 1
                }}
            }}",
            address::VIPS[0],
            address::VIPS[1]
        );
        tool::run(router.command("nft")?.arg(rules)).map(drop)
    }

    /// Lets nothing in to the port between agents of a node, by TCP, or all again.
    pub fn set_peer_port(&self, node: &str, open: bool) -> Result<()> {
        let rules = if open {
            "delete table ip cut"
        } else {
            "table ip cut { chain input { type filter hook input priority 0; tcp dport 7950 drop; }; }"
        };
        tool::run(self.place(node).command("nft")?.arg(rules)).map(drop)
    }

    /// Cuts or mends the wire between the router and one uplink of a node.
    pub fn set_wire(&self, node: &str, uplink: usize, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        tool::ip(
            Some(self.router().name()),
            &[format!("link set {} {state}", topology::wire(node, uplink))],
        )
    }
}
