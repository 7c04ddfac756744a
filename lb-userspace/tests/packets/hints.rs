//! Hints: the ingress learns where a flow is that its head tables do not name.

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::key::TCP;
use lb_common::table::{HeadBlock, Hint};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Net, THIRD, port};
use crate::frame::{ACK, Geneve, L3, Packet, open};
use crate::handshake::establish;
use crate::rig::Rig;

fn hint(rig: &Rig, net: Net, front: u16) -> Option<u16> {
    by_family!(net, A => {
        let key = cluster::flow_key::<A>(net.client(), net.front(front), TCP);
        rig.look::<_, Hint>(&net.map("HINT"), key).map(|hint| hint.node)
    })
}

#[test]
fn a_reply_with_news_makes_later_packets_follow_it_until_the_next_syn() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        // The head of the slot is on node THERE, the flow on node THIRD.
        let mut news = Geneve::reply(rig.wire, &Packet::tcp(front, client, ACK)).flags(flag::REHINT);
        news.node = THIRD;
        news.tunnel.ingress = THIRD.to_be_bytes();
        assert_eq!(rig.xdp(&news.frame()).verdict(), Verdict::HandedToTc);
        rig.uplink(&news.frame()).sent(Verdict::ReplyForwarded);
        assert_eq!(hint(&rig, net, port::THERE), Some(THIRD));
        let block: HeadBlock = rig.get("HEAD", net.pool(port::THERE));
        assert_eq!(block.hinted.count_ones(), 1);

        let data = Packet::tcp(client, front, ACK).frame();
        let opened = open(&rig.uplink(&data).sent(Verdict::Relayed));
        assert_eq!(opened.outer.destination, [192, 0, 2, 13]);
        let ran = rig.xdp(&data);
        assert_eq!(ran.verdict(), Verdict::Relayed);
        assert_eq!(open(&ran.frame).outer.destination, [192, 0, 2, 13]);
        // Another flow of the slot goes where the slot says.
        let udp = Packet::udp(client, front).frame();
        let opened = open(&rig.uplink(&udp).sent(Verdict::Relayed));
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);

        let opened = open(
            &rig.uplink(&Packet::syn(client, front).frame())
                .sent(Verdict::Relayed),
        );
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!(hint(&rig, net, port::THERE), None);
        let opened = open(&rig.uplink(&data).sent(Verdict::Relayed));
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
    }
}

#[test]
fn xdp_forgets_the_hint_of_a_new_connection_too() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        let mut news = Geneve::reply(rig.wire, &Packet::tcp(front, client, ACK)).flags(flag::REHINT);
        news.tunnel.ingress = THIRD.to_be_bytes();
        rig.uplink(&news.frame()).sent(Verdict::ReplyForwarded);
        let ran = rig.xdp(&Packet::syn(client, front).frame());
        assert_eq!(ran.verdict(), Verdict::Relayed);
        assert_eq!(open(&ran.frame).outer.destination, [192, 0, 2, 12]);
        assert_eq!(hint(&rig, net, port::THERE), None);
    }
}

#[test]
fn news_from_a_stranger_or_about_no_frontend_is_not_believed() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        let mut news = Geneve::reply(rig.wire, &Packet::tcp(front, client, ACK)).flags(flag::REHINT);
        news.node = cluster::STRANGER;
        rig.uplink(&news.frame()).dropped(Verdict::UnknownPeer);
        assert_eq!(hint(&rig, net, port::THERE), None);
        let none = Packet::tcp(net.front(port::NONE), client, ACK);
        let news = Geneve::reply(rig.wire, &none).flags(flag::REHINT);
        rig.uplink(&news.frame()).dropped(Verdict::ForgedReply);
        assert_eq!(hint(&rig, net, port::NONE), None);
    }
}

#[test]
fn a_flow_that_came_back_to_its_ingress_is_hinted_there() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        // The head moved to THERE, which sent the packet back along the chain: this node is its ingress and its holder.
        rig.set_head(net.pool(port::HERE), cluster::number::REMOTE);
        let data = Packet::tcp(client, front, ACK);
        let mut chased = Geneve::to(0, &data).flags(flag::CHASED);
        chased.tunnel.ingress = HERE.to_be_bytes();
        chased.tunnel.device = rig.wire as u8;
        rig.uplink(&chased.frame()).sent(Verdict::Delivered);
        assert_eq!(hint(&rig, net, port::HERE), None);
        rig.task(&Packet::tcp(net.task(), client, ACK).frame())
            .sent(Verdict::Replied);
        assert_eq!(hint(&rig, net, port::HERE), Some(HERE));
        let sent = rig.uplink(&data.frame()).sent(Verdict::Delivered);
        assert_eq!(crate::frame::read(&sent).to, net.task());
        assert_eq!(sent.len(), data.frame().len());
        assert_eq!(sent[L3 - 2..L3], data.frame()[L3 - 2..L3]);
        rig.set_head(net.pool(port::HERE), cluster::number::TASK);
    }
}
