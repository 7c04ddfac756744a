//! Nodes, tasks and clients, and the packets between them.

use super::cluster::Action;
use super::outcome::{Birth, Report};
use super::random::Random;
use super::rules::{MS, Rules, SECOND, Time, WARMING};
use super::source::Source;
use super::view::View;
use lb_common::placement::Candidate;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What a node remembers of a flow.
pub struct Entry {
    pub tag: u64,
    pub isn: u32,
    /// In FLOW, not in HALF.
    pub established: bool,
}

pub struct Node {
    pub view: View,
    /// When it begins to answer: a late joiner waits until everyone's news is its own.
    pub serves_from: Time,
    pub flows: HashMap<usize, Entry>,
    pub hints: HashMap<usize, u16>,
}

pub struct Task {
    pub node: u16,
    pub alive: bool,
    pub listening: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Client {
    /// SYNs sent so far.
    Opening(u32),
    Established,
    /// It has ended, or has been lost and counted.
    Over,
}

pub struct Flow {
    pub slot: u32,
    pub datagrams: bool,
    pub ends: Time,
    /// Longest pause between two packets.
    pub pause: Time,
    pub client: Client,
    /// First sequence number of the SYN-ACK that the client accepted, and what came after it.
    pub isn: u32,
    pub received: u32,
    pub holder: Option<u64>,
    pub birth: Option<Birth>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Syn,
    Segment { acknowledged: u32 },
    Datagram,
}

#[derive(Clone)]
pub struct Packet {
    pub flow: usize,
    pub kind: Kind,
    pub sent: Time,
    pub ingress: u16,
    pub named: u64,
    pub chased: bool,
    pub moved: bool,
    pub hinted: bool,
    pub list: Vec<u16>,
    pub hops: u32,
    /// The view that the packet's way was chosen from last.
    pub birth: Option<Birth>,
    pub chaser: Option<Chaser>,
}

/// What a packet's list was made from.
#[derive(Clone)]
pub struct Chaser {
    pub view: Rc<[Candidate]>,
    pub staleness: Time,
    pub suspected: Vec<u16>,
}

pub enum Event {
    Learn { node: u16, revision: u64 },
    Thaw { node: u16 },
    Listen { tag: u64 },
    Send { flow: usize },
    Resend { flow: usize, sent: u32 },
    Arrive { node: u16, packet: Packet },
    Act,
}

/// How rough the run is.
#[derive(Clone, Copy, Debug)]
pub struct Regime {
    pub nodes: u16,
    pub most_nodes: u16,
    pub members: u64,
    pub most_members: usize,
    /// Members added at once.
    pub batch: u64,
    /// Time between two actions of the operator or of chance.
    pub gap: (Time, Time),
    /// Longest way of a revision to a node.
    pub lag: Time,
    /// Longest time an agent is down.
    pub outage: Time,
    /// Changes of several nodes' members at once, and pools without an active member.
    pub drastic: bool,
    /// What happens more often than the rest.
    pub often: Option<Action>,
    /// Highest weight that a member may be given.
    pub heaviest: u64,
    /// Percent of the SYNs that arrive twice, at any two nodes.
    pub duplicates: u64,
    /// Percent of the flows that send datagrams.
    pub datagrams: u64,
    /// Flows at the beginning, and after each action.
    pub flows: usize,
    pub flows_at_once: usize,
    pub length: Time,
}

pub struct World {
    pub rules: Rules,
    pub regime: Regime,
    pub random: Random,
    pub now: Time,
    pub sequence: u64,
    pub events: BTreeMap<(Time, u64), Event>,
    pub source: Source,
    pub nodes: BTreeMap<u16, Node>,
    pub tasks: HashMap<u64, Task>,
    /// When the set last changed, for flows without a handshake.
    pub changed: Time,
    pub flows: Vec<Flow>,
    pub report: Report,
    pub next_tag: u64,
}

/// Plays `regime` by `rules` once.
pub fn play(seed: u64, rules: Rules, regime: Regime) -> Report {
    let mut world = World {
        rules,
        regime,
        random: Random::new(seed),
        now: 0,
        sequence: 0,
        events: BTreeMap::new(),
        source: Source::new(rules.whole_revisions),
        nodes: BTreeMap::new(),
        tasks: HashMap::new(),
        changed: 0,
        flows: Vec::new(),
        report: Report::default(),
        next_tag: 0,
    };
    world.begin();
    while let Some(((at, _), event)) = world.events.pop_first() {
        world.now = at;
        world.handle(event);
    }
    world.report
}

impl World {
    fn begin(&mut self) {
        for _ in 0..self.regime.members {
            let node = self.random.between(1, self.regime.nodes as u64) as u16;
            self.add_members(node, 1);
        }
        let revision = self.source.latest();
        for tag in 1..=self.regime.nodes {
            self.join(tag, revision.number, 0);
        }
        for _ in 0..self.regime.flows {
            let at = self.random.between(WARMING + MS, 2 * SECOND);
            self.open(at);
        }
        self.at(2 * SECOND, Event::Act);
    }

    pub fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Learn { node, revision } => {
                let (revision, now) = (self.source.revision(revision), self.now);
                if let Some(node) = self.nodes.get_mut(&node) {
                    // An agent that is down reads the latest when it is back.
                    if !node.view.is_frozen() {
                        node.view.learn(revision, now);
                    }
                }
            }
            Event::Thaw { node } => {
                let (revision, now) = (self.source.latest(), self.now);
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.view.thaw(now);
                    node.view.learn(revision, now);
                }
            }
            Event::Listen { tag } => {
                let active = self.source.latest().get(tag).is_some_and(|m| m.active);
                if let Some(task) = self.tasks.get_mut(&tag)
                    && active
                {
                    task.listening = true;
                }
            }
            Event::Send { flow } => self.send(flow),
            Event::Resend { flow, sent } => {
                if self.flows[flow].client == Client::Opening(sent) {
                    self.send(flow);
                }
            }
            Event::Arrive { node, packet } => self.arrive(node, packet),
            Event::Act => {
                self.act();
                // Most flows begin while the views differ.
                for _ in 0..self.regime.flows_at_once {
                    let at = self.now + self.random.between(0, WARMING + 2 * self.regime.lag);
                    self.open(at);
                }
                let gap = self.random.between(self.regime.gap.0, self.regime.gap.1);
                if self.now + gap < self.regime.length {
                    self.at(self.now + gap, Event::Act);
                }
            }
        }
    }
}
