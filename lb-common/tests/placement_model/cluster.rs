//! What operators, orchestrators and chance do to the set of members and nodes.

use super::rules::{MS, SECOND, Time, WARMING};
use super::view::View;
use super::world::{Event, Node, Task, World};
use std::collections::HashMap;

/// What operators, orchestrators and chance do.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Add,
    Drain,
    Return,
    Remove,
    Reweight,
    /// Drained and active again at once; nodes may never see it drained.
    Flap,
    Deafen,
    Suspect,
    Join,
    DrainNode,
    DrainSeveral,
}

impl Action {
    const ALL: &[Self] = &[
        Self::Add,
        Self::Add,
        Self::Add,
        Self::Drain,
        Self::Drain,
        Self::Return,
        Self::Remove,
        Self::Remove,
        Self::Reweight,
        Self::Flap,
        Self::Deafen,
        Self::Suspect,
        Self::Join,
        Self::DrainNode,
        Self::DrainSeveral,
    ];
}

impl World {
    pub fn act(&mut self) {
        if self.regime.outage > 0 && self.random.percent(20) {
            self.restart_an_agent();
        }
        let often = self.regime.often.filter(|_| self.random.percent(40));
        let Some(action) = often.or_else(|| self.random.pick(Action::ALL)) else {
            return;
        };
        let (now, members) = (self.now, self.source.latest());
        let in_state = |active| {
            members
                .members
                .iter()
                .filter(move |m| m.active == active)
                .map(|m| m.tag)
        };
        let (active, draining) = (
            in_state(true).collect::<Vec<_>>(),
            in_state(false).collect::<Vec<_>>(),
        );
        let able: Vec<_> = draining
            .iter()
            .copied()
            .filter(|tag| self.tasks[tag].listening)
            .collect();
        let enough = |stopped: usize| self.regime.drastic || active.len() > stopped + 1;
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        let node = self.random.pick(&nodes).unwrap_or(1);
        let (one, returning, leaving) = (
            self.random.pick(&active),
            self.random.pick(&able),
            self.random.pick(&draining),
        );
        match (action, one) {
            (Action::Add, _) if members.members.len() < self.regime.most_members => {
                self.add_members(node, self.regime.batch)
            }
            (Action::Drain, Some(tag)) if enough(1) => self.drain(&[tag]),
            (Action::Return, _) => self.source.set_active(now, returning.as_slice(), true),
            (Action::Remove, _) if draining.len() > 1 => self.remove(leaving),
            (Action::Reweight, Some(tag)) => {
                let weight = self.random.between(1, self.regime.heaviest) as u16;
                self.source.reweight(now, tag, weight);
            }
            (Action::Flap, Some(tag)) if enough(1) => {
                self.source.set_active(now, &[tag], false);
                self.publish();
                self.source.set_active(now, &[tag], true);
            }
            (Action::Deafen, Some(tag)) => self.deafen(tag),
            (Action::Suspect, _) => self.suspect(node, &nodes),
            (Action::Join, _) if nodes.len() < self.regime.most_nodes as usize => {
                // What it reads first may be old already.
                let behind = self.random.between(0, 1);
                self.join(nodes.len() as u16 + 1, members.number.saturating_sub(behind), now);
            }
            (Action::DrainNode, _) => {
                let here = |tags: Vec<u64>| {
                    tags.into_iter()
                        .filter(|t| self.tasks[t].node == node)
                        .collect::<Vec<_>>()
                };
                let (stop, start) = (here(active.clone()), here(able));
                if stop.is_empty() {
                    self.source.set_active(now, &start, true);
                } else if enough(stop.len()) {
                    self.drain(&stop);
                }
            }
            (Action::DrainSeveral, _) if self.regime.drastic => {
                let several: Vec<_> = active
                    .iter()
                    .copied()
                    .filter(|_| self.random.percent(50))
                    .collect();
                self.drain(&several);
            }
            _ => {}
        }
        self.publish();
    }

    /// Half of the tasks close their listener as soon as they are told, before any node knows.
    fn drain(&mut self, tags: &[u64]) {
        for tag in tags {
            let closes = self.random.percent(50);
            if let Some(task) = self.tasks.get_mut(tag) {
                task.listening &= !closes;
            }
        }
        self.source.set_active(self.now, tags, false);
    }

    fn remove(&mut self, tag: Option<u64>) {
        let Some(tag) = tag else { return };
        if let Some(task) = self.tasks.get_mut(&tag) {
            (task.alive, task.listening) = (false, false);
        }
        self.source.remove(self.now, tag);
    }

    /// Closes its listener for a moment, as a program that starts itself anew.
    fn deafen(&mut self, tag: u64) {
        let back = self.now + self.random.between(10 * MS, 400 * MS);
        if let Some(task) = self.tasks.get_mut(&tag) {
            task.listening = false;
            self.at(back, Event::Listen { tag });
        }
    }

    /// The first on `node`, the others on the nodes after it.
    pub fn add_members(&mut self, node: u16, count: u64) {
        let mut new = Vec::new();
        for (_, node) in (0..count).zip(
            (0..self.nodes.len().max(1) as u16)
                .cycle()
                .map(|step| node + step),
        ) {
            self.next_tag += 1;
            let tag = lb_common::hash::mix(self.next_tag);
            let node = if node > self.nodes.len() as u16 && !self.nodes.is_empty() {
                node - self.nodes.len() as u16
            } else {
                node
            };
            let task = Task {
                node,
                alive: true,
                listening: true,
            };
            self.tasks.insert(tag, task);
            let weight = if self.random.percent(70) {
                1
            } else {
                self.random.between(1, 4) as u16
            };
            new.push((tag, node, weight));
        }
        self.source.add(self.now, &new);
    }

    /// Sends the latest revision on its way to every node.
    fn publish(&mut self) {
        let revision = self.source.latest().number;
        if revision > 0 && self.source.revision(revision).at == self.now {
            self.changed = self.now;
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let at = self.now + self.random.between(0, self.regime.lag);
            self.at(at, Event::Learn { node, revision });
        }
    }

    pub fn join(&mut self, tag: u16, revision: u64, now: Time) {
        let node = Node {
            view: View::new(self.rules, self.source.revision(revision), now),
            serves_from: now + WARMING,
            flows: HashMap::new(),
            hints: HashMap::new(),
        };
        self.nodes.insert(tag, node);
    }

    fn restart_an_agent(&mut self) {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        let tag = self.random.pick(&nodes).unwrap_or(1);
        let (now, back) = (self.now, self.now + self.random.between(0, self.regime.outage));
        if let Some(node) = self.nodes.get_mut(&tag)
            && !node.view.is_frozen()
        {
            node.view.freeze(now);
            self.at(back, Event::Thaw { node: tag });
        }
    }

    /// A node hears another no more, which is alive all the same; or it hears nobody.
    fn suspect(&mut self, whom: u16, nodes: &[u16]) {
        // In calm times it is over before the next thing changes.
        let longest = if self.regime.drastic { 3 * SECOND } else { SECOND };
        let until = self.now + self.random.between(300 * MS, longest);
        let all = self.regime.drastic && self.random.percent(20);
        if let Some(by) = self.random.pick(nodes)
            && by != whom
        {
            let unheard = |&node: &u16| node != by && (all || node == whom);
            let suspected = nodes.iter().copied().filter(unheard).collect();
            self.node(by).view.suspect(suspected, until);
        }
    }
}
