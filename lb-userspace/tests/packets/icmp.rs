//! ICMP errors reach the one that must hear them, as if about the packet that it really sent.

use lb_common::Verdict;

use crate::cluster::{self, BOTH, Net, TASK, port};
use crate::frame::{ACK, Geneve, L3, Packet, icmp_error, open, read_error};
use crate::handshake::establish;
use crate::rig::Rig;

/// Source and destination of a quoted packet: addresses and ports.
pub fn ends(net: Net, quoted: &[u8]) -> (std::net::SocketAddr, std::net::SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
    match net {
        Net::Four => {
            let word =
                |at: usize| std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&quoted[at..at + 4]).unwrap());
            assert_eq!(
                lb_common::checksum::fold(lb_common::checksum::sum(&quoted[L3..L3 + 20])),
                0xffff,
                "the quoted header's checksum"
            );
            (
                (word(L3 + 12), port(L3 + 20)).into(),
                (word(L3 + 16), port(L3 + 22)).into(),
            )
        }
        Net::Six => {
            let word =
                |at: usize| std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&quoted[at..at + 16]).unwrap());
            (
                (word(L3 + 8), port(L3 + 40)).into(),
                (word(L3 + 24), port(L3 + 42)).into(),
            )
        }
    }
}

#[test]
fn an_error_about_a_reply_reaches_the_task_that_sent_it() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        rig.uplink(&Packet::udp(client, front).frame())
            .sent(Verdict::Delivered);
        for reply in [
            Packet::tcp(front, client, ACK).payload(&[1; 100]),
            Packet::udp(front, client),
        ] {
            let error = icmp_error(net.router(), &reply.frame());
            for sent in [
                rig.uplink(&error).sent(Verdict::Delivered),
                rig.uplink(&Geneve::of(TASK, net.pool_of(port::HERE), &error).frame())
                    .sent(Verdict::Delivered),
            ] {
                let (from, to, quoted) = read_error(&sent);
                assert_eq!((from, to), (net.router(), net.task().ip()));
                assert_eq!(ends(net, &quoted), (net.task(), client));
                assert_eq!(sent.len(), error.len());
            }
        }
    }
}

#[test]
fn an_error_of_a_task_reaches_the_client_as_the_frontends() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        // Port unreachable, say: the task has closed its UDP socket.
        let question = rig
            .uplink(&Packet::udp(client, front).frame())
            .sent(Verdict::Delivered);
        let error = icmp_error(net.task().ip(), &question);
        let (from, to, quoted) = read_error(&rig.task(&error).sent(Verdict::Replied));
        assert_eq!((from, to), (front.ip(), client.ip()));
        assert_eq!(ends(net, &quoted), (client, front));
        // The same by way of the tunnel.
        let mut other = client;
        other.set_port(40_001);
        let question = Geneve::to(TASK, &Packet::udp(other, front)).frame();
        let question = rig.uplink(&question).sent(Verdict::Delivered);
        let error = icmp_error(net.task().ip(), &question);
        let opened = open(&rig.task(&error).sent(Verdict::ReplyRelayed));
        let (from, to, quoted) = read_error(&opened.inner);
        assert_eq!((from, to), (front.ip(), other.ip()));
        assert_eq!(ends(net, &quoted), (other, front));
    }
}

#[test]
fn an_error_out_of_the_tunnel_is_sent_on_to_the_client() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        let error = icmp_error(front.ip(), &Packet::udp(client, front).frame());
        let mut reply = Geneve::reply(rig.wire, &Packet::udp(front, client));
        reply.inner = error[L3..].to_vec();
        let length = (reply.inner.len() + size_of::<lb_common::geneve::Tunnel>()) as u16;
        reply.tunnel.udp_length = length.to_be_bytes();
        let sent = rig.uplink(&reply.frame()).sent(Verdict::ReplyForwarded);
        assert_eq!(sent[L3..], error[L3..]);
        assert_eq!(rig.xdp(&reply.frame()).verdict(), Verdict::HandedToTc);
    }
}

#[test]
fn echo_requests_are_the_nodes_own() {
    let Some(mut rig) = Rig::new() else { return };
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], cluster::OWN)
        .ipv4([198, 51, 100, 7], cluster::ADDRESS, 60)
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, b"ping")
        .unwrap();
    let ran = rig.uplink(&frame);
    assert_eq!(ran.verdict(), Verdict::NotOurs);
    assert_eq!(ran.frame, frame);
}
