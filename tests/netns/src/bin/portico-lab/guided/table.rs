//! Who answered: a row for each node, family and protocol asked, a column for each task.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use netns::Cluster;
use netns::client::{http, udp};

/// Node asked, and how.
type Row = (String, &'static str, &'static str);

#[derive(Debug, Default)]
pub struct Answers {
    counts: BTreeMap<Row, BTreeMap<String, u32>>,
    clients: BTreeMap<Row, BTreeSet<IpAddr>>,
}

impl Answers {
    /// Asks every node over both families and protocols, `rounds` times each on a connection of its own. The table is
    /// printed at the end, and on a terminal after every round.
    pub fn fill_shown(&mut self, cluster: &Cluster, rounds: u32, failed: &mut Vec<String>) {
        let live = std::io::stdout().is_terminal();
        for round in 1..=rounds {
            self.fill(cluster, 1, failed);
            if live || round == rounds {
                let table = self.table();
                println!("{table}");
                if round < rounds {
                    // Back up to the table's first line (ECMA-48, CUU).
                    print!("\x1b[{}A", table.lines().count());
                }
            }
        }
    }

    /// The same without a word.
    pub fn fill(&mut self, cluster: &Cluster, rounds: u32, failed: &mut Vec<String>) {
        for _ in 0..rounds {
            for (name, node) in cluster.state.nodes.iter().filter(|(_, node)| !node.dead) {
                for address in node.address(0).both() {
                    let target = SocketAddr::new(address, 8080);
                    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                    for protocol in ["TCP", "UDP"] {
                        match ask(cluster, target, protocol) {
                            Ok((task, client)) => self.count((name.clone(), family, protocol), task, client),
                            Err(error) => failed.push(format!("{name} {protocol} {target}: {error:#}")),
                        }
                    }
                }
            }
        }
    }

    fn count(&mut self, row: Row, task: String, client: IpAddr) {
        *self
            .counts
            .entry(row.clone())
            .or_default()
            .entry(task)
            .or_default() += 1;
        self.clients.entry(row).or_default().insert(client);
    }

    fn table(&self) -> String {
        let tasks: BTreeSet<&String> = self.counts.values().flat_map(BTreeMap::keys).collect();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let words = ["asked", "", ""].map(str::to_owned).into_iter();
        table.set_header(
            words
                .chain(tasks.iter().map(ToString::to_string))
                .chain(["client seen".to_owned()]),
        );
        for (row, counts) in &self.counts {
            let cells = [row.0.clone(), row.1.to_owned(), row.2.to_owned()].into_iter();
            let counted = tasks
                .iter()
                .map(|task| counts.get(*task).copied().unwrap_or(0).to_string());
            let clients: Vec<String> = self.clients[row].iter().map(ToString::to_string).collect();
            table.add_row(cells.chain(counted).chain([clients.join(" ")]));
        }
        for column in 3..3 + tasks.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// How many tasks answered.
    pub fn tasks(&self) -> usize {
        self.counts
            .values()
            .flat_map(BTreeMap::keys)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// All addresses that tasks saw.
    pub fn clients(&self) -> Vec<IpAddr> {
        self.clients
            .values()
            .flatten()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Answers that came from tasks of a node.
    pub fn of_node(&self, cluster: &Cluster, node: &str) -> u32 {
        let here = |task: &str| cluster.task(task).is_ok_and(|task| task.node == node);
        self.counts
            .values()
            .flatten()
            .filter(|(task, _)| here(task))
            .map(|(_, count)| count)
            .sum()
    }

    /// Whether in every row tasks of every node answered, and no row is missing.
    pub fn nodes_behind_every_row(&self, cluster: &Cluster) -> bool {
        let all: BTreeSet<&String> = cluster.state.tasks.values().map(|task| &task.node).collect();
        let behind = |counts: &BTreeMap<String, u32>| -> BTreeSet<&String> {
            counts
                .keys()
                .filter_map(|task| cluster.state.tasks.get(task))
                .map(|task| &task.node)
                .collect()
        };
        self.counts.len() == cluster.state.nodes.len() * 4
            && self.counts.values().all(|counts| behind(counts) == all)
    }
}

fn ask(cluster: &Cluster, target: SocketAddr, protocol: &str) -> Result<(String, IpAddr)> {
    let client = cluster.client();
    if protocol == "UDP" {
        return udp::ask(&client, target);
    }
    http::ask(&client, target).map(|answer| (answer.task, answer.client))
}
