//! What clients send.

use super::rules::{MS, SECOND, SLOTS, Time};
use super::world::{Client, Event, Flow, Kind, Packet, World};

impl World {
    pub fn open(&mut self, at: Time) {
        let long = self.random.percent(40);
        let flow = Flow {
            slot: self.random.between(0, SLOTS as u64 - 1) as u32,
            datagrams: self.random.percent(self.regime.datagrams),
            ends: if long {
                self.regime.length
            } else {
                at + self.random.between(10 * MS, 10 * SECOND)
            },
            pause: if self.random.percent(20) {
                20 * SECOND
            } else {
                SECOND
            },
            client: Client::Opening(0),
            isn: 0,
            received: 0,
            holder: None,
            birth: None,
        };
        self.flows.push(flow);
        let flow = self.flows.len() - 1;
        self.at(at, Event::Send { flow });
    }

    pub fn send(&mut self, flow: usize) {
        let now = self.now;
        let pause = {
            let pause = self.flows[flow].pause;
            let young = self.flows[flow]
                .birth
                .as_ref()
                .is_some_and(|b| now < b.at + SECOND);
            // Many packets come in quick succession, through whatever node.
            if young {
                self.random.between(0, 60 * MS)
            } else if self.random.percent(30) {
                self.random.between(0, 2 * MS)
            } else {
                self.random.between(0, pause)
            }
        };
        let it = &mut self.flows[flow];
        if now > it.ends || it.client == Client::Over {
            it.client = Client::Over;
            return;
        }
        let kind = match it.client {
            _ if it.datagrams => Kind::Datagram,
            Client::Opening(sent) => {
                if sent == 6 {
                    it.client = Client::Over;
                    return;
                }
                it.client = Client::Opening(sent + 1);
                let resend = Event::Resend { flow, sent: sent + 1 };
                self.at(now + SECOND, resend);
                Kind::Syn
            }
            _ => {
                it.received = (it.received + 1000).min(1 << 20);
                Kind::Segment {
                    acknowledged: it.isn.wrapping_add(1 + it.received),
                }
            }
        };
        if kind != Kind::Syn {
            self.at(now + pause, Event::Send { flow });
        }
        self.emit(flow, kind);
        if kind == Kind::Syn && self.random.percent(self.regime.duplicates) {
            // Sent again too early, and another way.
            self.emit(flow, kind);
        }
    }

    /// A client's packet reaches some node that serves.
    pub fn emit(&mut self, flow: usize, kind: Kind) {
        let serving: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.serves_from <= self.now)
            .map(|(&t, _)| t)
            .collect();
        let Some(ingress) = self.random.pick(&serving) else {
            return;
        };
        let packet = Packet {
            flow,
            kind,
            sent: self.now,
            ingress,
            named: 0,
            chased: false,
            moved: false,
            hinted: false,
            list: Vec::new(),
            hops: 0,
            birth: None,
            chaser: None,
        };
        self.ingress(packet);
    }
}
