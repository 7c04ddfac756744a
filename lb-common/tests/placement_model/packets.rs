//! Ingress and owner: the rules for packets.

use super::outcome::{Birth, End, Outcome, Residual, judge};
use super::rules::{MS, UDP_WINDOW, WARMING};
use super::world::{Chaser, Client, Entry, Event, Kind, Node, Packet, World};
use lb_common::table::CHAIN;

impl World {
    pub fn node(&mut self, tag: u16) -> &mut Node {
        self.nodes
            .get_mut(&tag)
            .expect("packets are sent to nodes that exist")
    }

    /// Between two nodes, or from a node to itself.
    fn forward(&mut self, from: u16, to: u16, mut packet: Packet) {
        packet.hops += 1;
        assert!(packet.hops <= 8, "a packet goes round in circles");
        if !self.nodes.contains_key(&to) {
            return self.report.count(Outcome::Dropped);
        }
        let way = if from == to {
            0
        } else {
            self.random.between(100, 2 * MS)
        };
        self.at(self.now + way, Event::Arrive { node: to, packet });
    }

    fn birth(&mut self, at: u16) -> Birth {
        let now = self.now;
        let node = self.node(at);
        let (view, revision) = (node.view.candidates(now), node.view.revision.number);
        let staleness = self.source.staleness(revision, now);
        Birth {
            at: now,
            view,
            staleness,
            diverted: false,
            apart: now - self.changed <= WARMING + self.regime.lag + self.regime.outage,
        }
    }

    pub fn ingress(&mut self, mut packet: Packet) {
        let (now, slot, at) = (self.now, self.flows[packet.flow].slot, packet.ingress);
        let (node, new) = (self.node(at), packet.kind == Kind::Syn);
        if new {
            node.hints.remove(&packet.flow);
        }
        let Some((named, owner)) = node.view.choose(slot, new, now) else {
            return self.report.count(Outcome::Dropped);
        };
        let diverted = node.view.head(slot, now) != Some((named, owner));
        packet.named = named;
        let hint = node.hints.get(&packet.flow).copied();
        packet.hinted = hint.is_some();
        packet.birth = Some(Birth {
            diverted,
            ..self.birth(at)
        });
        if diverted {
            self.report.count(Outcome::Diverted);
        }
        self.forward(at, hint.unwrap_or(owner), packet);
    }

    pub fn arrive(&mut self, at: u16, packet: Packet) {
        // An entry whose member is not valid here counts as absent.
        let node = self.node(at);
        if node
            .flows
            .get(&packet.flow)
            .is_some_and(|entry| node.view.knows(entry.tag).is_none())
        {
            node.flows.remove(&packet.flow);
        }
        match packet.kind {
            Kind::Syn => self.syn(at, packet),
            Kind::Segment { acknowledged } => self.segment(at, packet, acknowledged),
            Kind::Datagram => self.datagram(at, packet),
        }
    }

    fn syn(&mut self, at: u16, packet: Packet) {
        let flow = packet.flow;
        if let Some(entry) = self.nodes[&at].flows.get(&flow) {
            let (tag, isn) = (entry.tag, entry.isn);
            return self.answer(flow, tag, isn, packet);
        }
        if self.can_take(at, packet.named) {
            return self.create(at, packet);
        }
        self.hand_on(at, packet);
    }

    /// To the next by this node's own ranking; once.
    fn hand_on(&mut self, at: u16, mut packet: Packet) {
        let (now, slot, refused) = (self.now, self.flows[packet.flow].slot, packet.named);
        if packet.moved {
            return self.report.count(Outcome::Dropped);
        }
        packet.birth = Some(self.birth(at));
        match self.node(at).view.next(slot, refused, now) {
            Some((tag, node)) if tag != refused => {
                (packet.named, packet.moved) = (tag, true);
                if let Some(birth) = &mut packet.birth {
                    birth.diverted = true;
                }
                self.report.count(Outcome::Moved);
                self.forward(at, node, packet);
            }
            _ => self.report.count(Outcome::Dropped),
        }
    }

    /// Here, hooked up, not draining unless none is active, and listening.
    fn can_take(&mut self, at: u16, tag: u64) -> bool {
        let now = self.now;
        let node = self.node(at);
        let here = node.view.knows(tag).is_some_and(|m| m.node == at);
        here && node.view.takes(tag, now) && self.tasks.get(&tag).is_some_and(|t| t.alive && t.listening)
    }

    fn create(&mut self, at: u16, packet: Packet) {
        let (flow, tag, isn) = (packet.flow, packet.named, self.random.bits() as u32);
        let entry = Entry {
            tag,
            isn,
            established: packet.kind == Kind::Datagram,
        };
        self.node(at).flows.insert(flow, entry);
        if packet.kind == Kind::Syn {
            self.answer(flow, tag, isn, packet);
        }
    }

    /// The task's SYN-ACK; the client takes the first.
    fn answer(&mut self, flow: usize, tag: u64, isn: u32, packet: Packet) {
        if !matches!(self.flows[flow].client, Client::Opening(_)) || !self.tasks[&tag].alive {
            return;
        }
        self.report.established += 1;
        let it = &mut self.flows[flow];
        (it.client, it.isn, it.received) = (Client::Established, isn, 0);
        (it.holder, it.birth) = (Some(tag), packet.birth);
        // The last segment of the handshake and a request.
        for _ in 0..3 {
            self.emit(
                flow,
                Kind::Segment {
                    acknowledged: isn.wrapping_add(1),
                },
            );
        }
        let next = self.now + self.random.between(0, 50 * MS);
        self.at(next, Event::Send { flow });
    }

    fn segment(&mut self, at: u16, packet: Packet, acknowledged: u32) {
        let rules = self.rules;
        if let Some(entry) = self.node(at).flows.get_mut(&packet.flow)
            && (entry.established || rules.acknowledges(acknowledged, entry.isn))
        {
            entry.established = true;
            let tag = entry.tag;
            return self.deliver(at, tag, packet);
        }
        self.chase(at, packet);
    }

    fn deliver(&mut self, at: u16, tag: u64, packet: Packet) {
        let flow = packet.flow;
        if self.flows[flow].client == Client::Over {
            return;
        }
        if !self.tasks[&tag].alive && packet.kind == Kind::Datagram {
            return self.report.count(Outcome::Dropped);
        }
        if !self.tasks[&tag].alive {
            return self.lose(flow, Residual::TaskGone);
        }
        match self.flows[flow].holder {
            Some(holder) if holder != tag => return self.stray(at, tag, holder, &packet),
            Some(_) => {}
            None => {
                self.flows[flow].holder = Some(tag);
                // A flow without a handshake begins with its first delivery.
                let birth = packet.birth.clone();
                self.flows[flow].birth = birth.map(|birth| Birth {
                    at: self.now,
                    ..birth
                });
                self.report.established += 1;
            }
        }
        let outcome = match (packet.chased, packet.hinted) {
            (true, _) => Outcome::Chased,
            (false, true) => Outcome::Hinted,
            (false, false) => Outcome::Direct,
        };
        self.report.count(outcome);
        // The reply says where the flow is; now and then the ingress forgets.
        if packet.chased && self.random.percent(30) {
            self.node(packet.ingress).hints.insert(flow, at);
        } else if self.random.percent(30) {
            self.node(packet.ingress).hints.remove(&flow);
        }
    }

    /// Unknown here: along the chain, or nobody has it.
    fn chase(&mut self, at: u16, mut packet: Packet) {
        let (now, slot) = (self.now, self.flows[packet.flow].slot);
        if !packet.chased {
            let view = &mut self.node(at).view;
            packet.list = view
                .chain(slot, now)
                .into_iter()
                .filter(|&node| node != at)
                .collect();
            packet.chased = true;
            packet.chaser = Some(self.chaser(at));
        }
        if packet.list.is_empty() {
            return self.reset(packet);
        }
        let next = packet.list.remove(0);
        self.forward(at, next, packet);
    }

    fn chaser(&mut self, at: u16) -> Chaser {
        let now = self.now;
        let view = &mut self.node(at).view;
        let (suspected, revision) = (view.suspected(now).to_vec(), view.revision.number);
        Chaser {
            view: view.candidates(now),
            suspected,
            staleness: self.source.staleness(revision, now),
        }
    }

    fn reset(&mut self, packet: Packet) {
        let it = &self.flows[packet.flow];
        let (Some(holder), Some(birth), false) = (it.holder, it.birth.clone(), it.client == Client::Over)
        else {
            return;
        };
        if !self.tasks[&holder].alive {
            return self.lose(packet.flow, Residual::TaskGone);
        }
        let end = End {
            chaser: &packet.chaser.expect("whoever resets has chased"),
            slot: it.slot,
            room: CHAIN,
            rules: self.rules.unbroken(),
        };
        match judge(holder, &birth, &end) {
            Ok(residual) => self.lose(packet.flow, residual),
            Err(words) => {
                self.flows[packet.flow].client = Client::Over;
                let age = (self.now - birth.at) / MS;
                self.report
                    .violation(format!("reset {age} ms after its birth: {words}"));
            }
        }
    }

    /// Delivered to a task that is not the holder.
    fn stray(&mut self, at: u16, tag: u64, holder: u64, packet: &Packet) {
        let (flow, now) = (packet.flow, self.now);
        let (slot, birth) = (self.flows[flow].slot, self.flows[flow].birth.clone());
        if !self.tasks[&holder].alive && packet.kind == Kind::Datagram {
            // What a sender of datagrams wishes for.
            self.flows[flow].holder = Some(tag);
            self.flows[flow].birth = packet.birth.clone();
            return self.report.count(Outcome::Rescued);
        }
        if !self.tasks[&holder].alive {
            return self.lose(flow, Residual::TaskGone);
        }
        let birth = birth.expect("what has a holder was born");
        let quiet = now.saturating_sub(self.nodes[&at].view.changed(slot));
        let judged = match (packet.kind, &packet.chaser) {
            (Kind::Datagram, _) if birth.apart || packet.sent <= birth.at => Ok(Residual::DatagramsBornApart),
            (Kind::Datagram, _) if birth.diverted || packet.moved => Ok(Residual::DatagramsDiverted),
            (Kind::Datagram, None) if quiet > UDP_WINDOW => Ok(Residual::OldDatagrams),
            (Kind::Datagram, Some(chaser)) => {
                let end = End {
                    chaser,
                    slot,
                    // Whoever creates it in the end takes a place of the list.
                    room: CHAIN - 1,
                    rules: self.rules.unbroken(),
                };
                judge(holder, &birth, &end)
            }
            _ => Err("delivered to another task".to_owned()),
        };
        match judged {
            Ok(residual) => self.lose(flow, residual),
            Err(words) => {
                self.flows[flow].client = Client::Over;
                let (age, segment) = ((now - birth.at) / MS, packet.kind != Kind::Datagram);
                self.report.violation(format!(
                    "strayed {age} ms after its birth (TCP {segment}, quiet {quiet}): {words}"
                ));
            }
        }
    }

    fn lose(&mut self, flow: usize, residual: Residual) {
        self.flows[flow].client = Client::Over;
        self.report.count(Outcome::Lost(residual));
    }

    fn datagram(&mut self, at: u16, mut packet: Packet) {
        let (now, slot, rules) = (self.now, self.flows[packet.flow].slot, self.rules);
        if let Some(entry) = self.nodes[&at].flows.get(&packet.flow) {
            let tag = entry.tag;
            return self.deliver(at, tag, packet);
        }
        let node = self.node(at);
        let disputed = rules.chase_disputed
            && node
                .view
                .head(slot, now)
                .is_none_or(|(tag, _)| tag != packet.named);
        let recent = now.saturating_sub(node.view.changed(slot)) <= UDP_WINDOW;
        if !packet.chased && !packet.moved && (recent || disputed) {
            packet.chased = true;
            packet.list = node
                .view
                .chain(slot, now)
                .into_iter()
                .filter(|&node| node != at)
                .collect();
            packet.list.truncate(CHAIN - 1);
            packet.list.push(at);
            packet.chaser = Some(self.chaser(at));
        }
        if !packet.list.is_empty() {
            let next = packet.list.remove(0);
            if next != at {
                return self.forward(at, next, packet);
            }
        }
        // Asked everybody, or nobody can have it.
        if self.can_take(at, packet.named) {
            let tag = packet.named;
            self.create(at, packet.clone());
            return self.deliver(at, tag, packet);
        }
        self.hand_on(at, packet);
    }
}
