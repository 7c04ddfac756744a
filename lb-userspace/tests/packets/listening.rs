//! New connections never meet a task that has stopped listening: the owner asks the task's own kernel.

use std::net::{SocketAddr, TcpListener, TcpStream};

use lb_common::Verdict;
use lb_common::key::TCP;
use socket2::{Domain, Socket, Type};

use crate::cluster::{self, BOTH, Net, SECOND, TASK, port};
use crate::frame::{Packet, read};
use crate::handshake::{ISN, acknowledge, answer};
use crate::rig::Rig;
use crate::task::Task;

fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn a_new_connection_goes_to_a_task_that_listens() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let (mut client, front) = (net.client(), net.front(port::HERE));
        let to = |rig: &mut Rig, client| {
            read(
                &rig.uplink(&Packet::syn(client, front).frame())
                    .sent(Verdict::Delivered),
            )
            .to
        };
        assert_eq!(to(&mut rig, client), net.second(), "nobody listens");
        let listener = task.get(move || TcpListener::bind(net.task()).unwrap());
        client.set_port(40_001);
        assert_eq!(to(&mut rig, client), net.task());
        drop(listener);
        client.set_port(40_002);
        assert_eq!(to(&mut rig, client), net.second(), "it has stopped");
        let wildcard = task.get(move || {
            let any: SocketAddr = match net {
                Net::Four => "0.0.0.0:80".parse().unwrap(),
                Net::Six => "[::]:80".parse().unwrap(),
            };
            TcpListener::bind(any).unwrap()
        });
        client.set_port(40_003);
        assert_eq!(to(&mut rig, client), net.task());
        drop(wildcard);
    }
}

#[test]
fn a_syn_that_is_repeated_goes_to_another_task_when_its_own_has_stopped_listening() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let (client, front) = (net.client(), net.front(port::HERE));
        let listener = task.get(move || TcpListener::bind(net.task()).unwrap());
        let syn = Packet::syn(client, front).frame();
        for _ in 0..2 {
            assert_eq!(read(&rig.uplink(&syn).sent(Verdict::Delivered)).to, net.task());
        }
        drop(listener);
        assert_eq!(read(&rig.uplink(&syn).sent(Verdict::Delivered)).to, net.second());
        assert_eq!(rig.flow("HALF", net, client, front, TCP).unwrap().tag, SECOND);
        assert_eq!(rig.rev("HALFREV", net, net.task(), client, TCP), None);
        assert!(rig.rev("HALFREV", net, net.second(), client, TCP).is_some());
    }
}

#[test]
fn a_task_that_never_listens_gets_connections_to_refuse_after_ten_seconds() {
    let Some(mut rig) = Rig::new() else { return };
    let (_task, namespace) = Task::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.set_chain(
            net.pool(port::HERE),
            &[cluster::HERE],
            lb_common::table::NO_MEMBER,
            0,
        );
        rig.change_local(TASK, |local| local.namespace = namespace);
        let syn = Packet::syn(net.client(), net.front(port::HERE)).frame();
        rig.uplink(&syn).dropped(Verdict::NotListening);
        let local: lb_common::table::Local = rig.look("LOCAL", TASK).unwrap();
        assert_ne!(local.deaf_since, 0);
        rig.change_local(TASK, |local| local.deaf_since -= 12);
        rig.uplink(&syn).sent(Verdict::Delivered);
    }
}

#[test]
fn a_syn_on_a_live_flow_reaches_the_task_that_has_the_socket() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let (client, front) = (net.client(), net.front(port::HERE));
        let listener = task.get(move || TcpListener::bind(net.task()).unwrap());
        let syn = Packet::syn(client, front).frame();
        rig.uplink(&syn).sent(Verdict::Delivered);
        rig.task(&answer(net, client).frame()).sent(Verdict::Replied);
        let right = acknowledge(client, front, ISN.wrapping_add(1)).frame();
        rig.uplink(&right).sent(Verdict::Delivered);
        // The task's kernel has exactly this connection: it must answer the SYN itself (RFC 5961, section 4).
        let sockets = task.get(move || {
            let near = connect(client, net.task());
            (near, listener.accept().unwrap().0, listener)
        });
        assert_eq!(read(&rig.uplink(&syn).sent(Verdict::Delivered)).to, net.task());
        assert!(
            rig.flow("FLOW", net, client, front, TCP).is_some(),
            "still established"
        );
        let (near, far, _listener) = sockets;
        // Reset, so that nothing waits.
        socket2::SockRef::from(&near)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop((near, far));
        rig.uplink(&syn).sent(Verdict::Delivered);
        assert!(
            rig.flow("FLOW", net, client, front, TCP).is_none(),
            "a new connection"
        );
    }
}
