//! A connection whose half-open entry a flood has pushed out: the task's own kernel knows whose handshake it was.

use std::net::{IpAddr, SocketAddr, TcpListener};

use lb_common::Verdict;
use lb_common::key::{TCP, UDP};
use lb_common::table::{Flow, Rev};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Net, TASK, port};
use crate::frame::{ACK, L3, Packet, read};
use crate::handshake::{acknowledge, begin};
use crate::rig::{Rig, shell};
use crate::task::{Task, Wire};

/// A client that the task reaches through its device.
fn client(net: Net) -> SocketAddr {
    let address: IpAddr = match net {
        Net::Four => [198, 51, 100, 9].into(),
        Net::Six => [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 9].into(),
    };
    (address, 40_000).into()
}

/// Opens a connection up to the answer of the task's kernel, whose number it gives.
fn opened(rig: &mut Rig, net: Net, wire: &Wire) -> u32 {
    let (client, front) = (client(net), net.front(port::HERE));
    let syn = rig
        .uplink(&Packet::syn(client, front).frame())
        .sent(Verdict::Delivered);
    wire.send(&syn);
    let answer = wire.receive(client);
    rig.task(&answer).sent(Verdict::Replied);
    let sequence = L3 + if net == Net::Four { 20 } else { 40 } + 4;
    u32::from_be_bytes(*answer[sequence..].first_chunk().unwrap())
}

/// What a flood of SYNs does in the end.
fn evict(rig: &mut Rig, net: Net) {
    let (client, front) = (client(net), net.front(port::HERE));
    by_family!(net, A => {
        rig.remove::<_, Flow>(&net.map("HALF"), cluster::flow_key::<A>(client, front, TCP));
        rig.remove::<_, Rev<A>>(&net.map("HALFREV"), cluster::rev_key::<A>(net.task(), client, TCP));
    });
}

fn listen(task: &Task, net: Net) -> TcpListener {
    task.get(move || TcpListener::bind(net.task()).unwrap())
}

#[test]
fn the_acknowledgement_of_a_handshake_that_the_task_remembers_establishes_the_flow() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    let wire = Wire::new();
    // The kernel keeps a request, or a cookie instead.
    for cookies in [0, 2] {
        task.run(move || {
            shell(&format!("echo {cookies} > /proc/sys/net/ipv4/tcp_syncookies"));
        });
        for net in BOTH {
            cluster::locals(&mut rig, net);
            rig.change_local(TASK, |local| local.namespace = namespace);
            let (client, front) = (client(net), net.front(port::HERE));
            let listener = listen(&task, net);
            let isn = opened(&mut rig, net, &wire);
            evict(&mut rig, net);
            let right = acknowledge(client, front, isn.wrapping_add(1));
            let right = Packet {
                sequence: 1_001,
                ..right
            };
            let sent = rig.uplink(&right.frame()).sent(Verdict::Delivered);
            assert_eq!((read(&sent).from, read(&sent).to), (client, net.task()));
            let flow = rig.flow("FLOW", net, client, front, TCP).expect("an entry");
            assert_eq!((flow.tag, flow.node, flow.device), (TASK, HERE, rig.wire as u8));
            let rev = rig.rev("REV", net, net.task(), client, TCP).expect("a way back");
            assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
            wire.send(&sent);
            let accepted = task.get(move || listener.accept().unwrap());
            assert_eq!(accepted.1, client);
            // An established socket may be another flow's: it is nobody's without an entry.
            by_family!(net, A => {
                rig.remove::<_, Flow>(&net.map("FLOW"), cluster::flow_key::<A>(client, front, TCP));
                rig.remove::<_, Rev<A>>(&net.map("REV"), cluster::rev_key::<A>(net.task(), client, TCP));
            });
            rig.uplink(&right.frame()).sent(Verdict::Reset);
            assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
            // Reset, so that nothing waits.
            socket2::SockRef::from(&accepted.0)
                .set_linger(Some(std::time::Duration::ZERO))
                .unwrap();
        }
    }
}

/// The two tables forget by themselves: the way back may go first.
#[test]
fn a_handshake_goes_on_when_only_its_way_back_was_pushed_out() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let way_back = |rig: &mut Rig| rig.rev("HALFREV", net, net.task(), client, TCP);
        let forget = |rig: &mut Rig| {
            by_family!(net, A => {
                rig.remove::<_, Rev<A>>(&net.map("HALFREV"), cluster::rev_key::<A>(net.task(), client, TCP));
            });
        };
        begin(&mut rig, client, front);
        forget(&mut rig);
        // The client repeats its SYN, and the answer finds its way.
        begin(&mut rig, client, front);
        assert_eq!(way_back(&mut rig).unwrap().0, front);
        rig.task(&crate::handshake::answer(net, client).frame())
            .sent(Verdict::Replied);
        // It is pushed out once more, after the answer.
        forget(&mut rig);
        rig.uplink(&acknowledge(client, front, crate::handshake::ISN.wrapping_add(1)).frame())
            .sent(Verdict::Delivered);
        let flow = rig.flow("FLOW", net, client, front, TCP).expect("an entry");
        assert_eq!((flow.tag, flow.node), (TASK, HERE));
        let rev = rig.rev("REV", net, net.task(), client, TCP).expect("a way back");
        assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
        assert_eq!(rig.flow("HALF", net, client, front, TCP), None);
    }
}

#[test]
fn a_datagram_whose_way_back_was_pushed_out_gets_another() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let question = Packet::udp(client, front).frame();
        rig.uplink(&question).sent(Verdict::Delivered);
        by_family!(net, A => {
            rig.remove::<_, Rev<A>>(&net.map("HALFREV"), cluster::rev_key::<A>(net.task(), client, UDP));
        });
        rig.uplink(&question).sent(Verdict::Delivered);
        let rev = rig
            .rev("HALFREV", net, net.task(), client, UDP)
            .expect("a way back");
        assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
    }
}

#[test]
fn an_acknowledgement_of_nothing_is_not_taken_for_a_lost_handshake() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    let wire = Wire::new();
    task.run(|| {
        shell("echo 2 > /proc/sys/net/ipv4/tcp_syncookies");
    });
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let (client, front) = (client(net), net.front(port::HERE));
        let bogus = Packet::tcp(client, front, ACK).frame();
        rig.uplink(&bogus).sent(Verdict::Reset);
        let _listener = listen(&task, net);
        rig.uplink(&bogus).sent(Verdict::Reset);
        // Nor is one that belongs to another cookie.
        let isn = opened(&mut rig, net, &wire);
        evict(&mut rig, net);
        let wrong = acknowledge(client, front, isn.wrapping_add(1_000));
        let wrong = Packet {
            sequence: 1_001,
            ..wrong
        };
        rig.uplink(&wrong.frame()).sent(Verdict::Reset);
        assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
    }
}

#[test]
fn a_lost_handshake_takes_nobody_elses_way_back() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    let wire = Wire::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let (client, front) = (client(net), net.front(port::HERE));
        let _listener = listen(&task, net);
        let isn = opened(&mut rig, net, &wire);
        evict(&mut rig, net);
        // The same client port at another frontend of the task, meanwhile.
        by_family!(net, A => {
            let other = Rev::<A> {
                front: <A as crate::cluster::Narrow>::of(front.ip()),
                client: <A as crate::cluster::Narrow>::of(client.ip()),
                front_port: [1, 1],
                client_port: client.port().to_be_bytes(),
                tick: 0,
                node: HERE,
                device: 0,
                flags: 0,
                realm: 0,
                pad: [0; 2],
            };
            rig.put(&net.map("REV"), cluster::rev_key::<A>(net.task(), client, TCP), other);
        });
        let right = acknowledge(client, front, isn.wrapping_add(1));
        let right = Packet {
            sequence: 1_001,
            ..right
        };
        rig.uplink(&right.frame()).sent(Verdict::Reset);
        let rev = rig.rev("REV", net, net.task(), client, TCP).unwrap();
        assert_eq!(rev.0.port(), 0x101);
        by_family!(net, A => {
            rig.remove::<_, Rev<A>>(&net.map("REV"), cluster::rev_key::<A>(net.task(), client, TCP));
        });
    }
}

#[test]
fn an_answer_is_not_noted_for_a_connection_that_another_task_has_by_now() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        begin(&mut rig, client, front);
        by_family!(net, A => {
            let key = cluster::flow_key::<A>(client, front, TCP);
            let half: Flow = rig.look(&net.map("HALF"), key).unwrap();
            rig.put(&net.map("HALF"), key, Flow { tag: cluster::SECOND, ..half });
        });
        rig.task(&crate::handshake::answer(net, client).frame())
            .dropped(Verdict::Unknown);
        let half = rig.flow("HALF", net, client, front, TCP).unwrap();
        assert_eq!((half.isn, half.state), (0, 0));
    }
}
