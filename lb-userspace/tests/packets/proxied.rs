//! Frontends and slots that this node's proxy serves: what is new goes up to its sockets, and so does what these have; every
//! other connection goes on as it was.

use std::net::{SocketAddr, UdpSocket};

use lb_common::key::{Front, TCP, UDP};
use lb_common::table::{BY_PROXY, GIVEN, Hint, NOBODY_ELSE, Pool, Settings, pool_flag};
use lb_common::trace::{Step, Trace};
use lb_common::{Verdict, tick};
use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Narrow, Net, THERE, number, port};
use crate::frame::{ACK, L3, Packet, RST, icmp_error, open, read};
use crate::handshake::establish;
use crate::relay;
use crate::rig::{Ran, Rig, TC_UNSPEC, XDP_PASS};
use crate::task::Task;

/// The frontend is the proxy's, or the packet programs' again.
pub fn give(rig: &mut Rig, net: Net, at: u16, given: bool) {
    let number = net.pool(at) | if given { GIVEN } else { 0 };
    let front = net.front(at);
    for protocol in [TCP, UDP] {
        by_family!(net, A => {
            let key = Front::new(A::of(front.ip()), at.to_be_bytes(), protocol);
            rig.put(&net.map("FRONT"), key, number);
        });
    }
}

fn ask_host_first(rig: &mut Rig, net: Net, at: u16) {
    rig.change::<Pool>("POOL", net.pool(at), |pool| pool.flags |= pool_flag::HOST_SOCKETS);
}

/// A connection that this machine has, as if it had been accepted.
fn established(at: SocketAddr, client: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    repair(&socket, 1);
    socket.bind(&at.into()).unwrap();
    socket.connect(&client.into()).unwrap();
    repair(&socket, 0);
    socket
}

/// Without a word on the wire (TCP_REPAIR).
fn repair(socket: &Socket, on: libc::c_int) {
    use std::os::fd::AsRawFd;
    // SAFETY: the option is an int, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn listening(at: SocketAddr) -> std::net::TcpListener {
    std::net::TcpListener::bind(at).unwrap()
}

#[track_caller]
fn left_to_the_stack(ran: &Ran, frame: &[u8], verdict: Verdict) {
    assert_eq!(ran.verdict(), verdict);
    assert_eq!(ran.action, TC_UNSPEC);
    assert_eq!(ran.frame, frame);
}

#[test]
fn what_is_new_at_a_frontend_of_the_proxy_goes_up_to_its_sockets() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for at in [port::HERE, port::THERE, port::NOBODY] {
            give(&mut rig, net, at, true);
            for packet in [
                Packet::syn(net.client(), net.front(at)),
                Packet::udp(net.client(), net.front(at)),
            ] {
                let frame = packet.frame();
                let ran = rig.xdp(&frame);
                assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
                left_to_the_stack(&rig.uplink(&frame), &frame, Verdict::Proxied);
                // A client on this node.
                left_to_the_stack(&rig.task(&frame), &frame, Verdict::Proxied);
            }
        }
    }
}

#[test]
fn connections_that_packet_programs_have_go_on_after_the_proxy_takes_the_frontend() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, here, there) = (net.client(), net.front(port::HERE), net.front(port::THERE));
        establish(&mut rig, net, client, here);
        rig.uplink(&Packet::udp(client, here).frame())
            .sent(Verdict::Delivered);
        for front in [here, there] {
            give(&mut rig, net, front.port(), true);
        }
        let _listeners = [here, there].map(listening);
        let word = Packet::tcp(client, here, ACK);
        rig.uplink(&word.frame()).sent(Verdict::Delivered);
        rig.uplink(&Packet::udp(client, here).frame())
            .sent(Verdict::Delivered);
        // Of another node's connections that node knows.
        let sent = rig
            .uplink(&Packet::tcp(client, there, ACK).frame())
            .sent(Verdict::Relayed);
        assert_eq!(open(&sent).outer.destination, [192, 0, 2, 12]);
        // Nobody's are answered as ever.
        let mut stranger = client;
        stranger.set_port(41_000);
        let reset = rig
            .uplink(&Packet::tcp(stranger, here, ACK).frame())
            .sent(Verdict::Reset);
        assert_ne!(read(&reset).flags & RST, 0);
    }
}

#[test]
fn a_connection_of_the_proxy_goes_on_whichever_plane_has_the_frontend() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for at in [port::HERE, port::THERE] {
            let (client, front) = (net.client(), net.front(at));
            let _listener = listening(front);
            let _connection = established(front, client);
            give(&mut rig, net, at, true);
            let word = Packet::tcp(client, front, ACK).frame();
            left_to_the_stack(&rig.uplink(&word), &word, Verdict::HostSocket);
            // What a router has against something the proxy sent.
            let error = icmp_error(net.router(), &Packet::tcp(front, client, ACK).frame());
            left_to_the_stack(&rig.uplink(&error), &error, Verdict::HostSocket);
            // Back again, while some are left.
            give(&mut rig, net, at, false);
            ask_host_first(&mut rig, net, at);
            assert_eq!(rig.xdp(&word).verdict(), Verdict::HandedToTc);
            left_to_the_stack(&rig.uplink(&word), &word, Verdict::HostSocket);
            // A SYN that is repeated because its answer was lost is still the proxy's.
            let again = Packet::syn(client, front).frame();
            left_to_the_stack(&rig.uplink(&again), &again, Verdict::HostSocket);
            let mut other = client;
            other.set_port(42_000);
            let new = Packet::syn(other, front).frame();
            let verdict = if at == port::HERE {
                Verdict::Delivered
            } else {
                Verdict::Relayed
            };
            rig.uplink(&new).sent(verdict);
        }
    }
}

#[test]
fn a_syn_on_a_connection_that_a_task_here_has_is_not_the_proxys() {
    let Some(mut rig) = Rig::new() else { return };
    let (_task, namespace) = Task::new();
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let syn = Packet::syn(client, front).frame();
        // Whoever its slot leads to by now.
        for head in [number::TASK, BY_PROXY | number::REMOTE, BY_PROXY | NOBODY_ELSE] {
            rig.set_head(net.pool(port::HERE), head);
            for given in [true, false] {
                give(&mut rig, net, port::HERE, given);
                let sent = rig.uplink(&syn).sent(Verdict::Delivered);
                assert_eq!(read(&sent).to, net.task());
            }
        }
        // The task's kernel has no such connection any more.
        rig.change_local(cluster::TASK, |local| local.namespace = namespace);
        left_to_the_stack(&rig.uplink(&syn), &syn, Verdict::Proxied);
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

#[test]
fn errors_about_datagrams_reach_who_sent_them() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let error = icmp_error(net.router(), &Packet::udp(front, client).frame());
        for given in [true, false] {
            give(&mut rig, net, port::HERE, given);
            rig.set_head(
                net.pool(port::HERE),
                if given {
                    number::TASK
                } else {
                    BY_PROXY | number::REMOTE
                },
            );
            left_to_the_stack(&rig.uplink(&error), &error, Verdict::Proxied);
        }
        rig.set_head(net.pool(port::HERE), number::TASK);
        rig.uplink(&Packet::udp(client, front).frame())
            .sent(Verdict::Delivered);
        give(&mut rig, net, port::HERE, true);
        rig.uplink(&error).sent(Verdict::Delivered);
    }
}

#[test]
fn without_an_agent_the_member_beside_the_proxys_serves() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let silent_for = |rig: &mut Rig, seconds: u32| {
            rig.change::<Settings>("SETTINGS", 0, |settings| {
                settings.alive = relay::now() - tick::from_seconds(seconds)
            });
        };
        let mut client = net.client();
        for (seconds, head, proxied) in [
            (1, number::TASK, true),
            (10, number::TASK, false),
            (10, NOBODY_ELSE, true),
        ] {
            client.set_port(client.port() + 1);
            let syn = Packet::syn(client, net.front(port::HERE)).frame();
            rig.set_head(net.pool(port::HERE), BY_PROXY | head);
            silent_for(&mut rig, seconds);
            if proxied {
                left_to_the_stack(&rig.uplink(&syn), &syn, Verdict::Proxied);
            } else {
                rig.uplink(&syn).sent(Verdict::Delivered);
            }
        }
        // A frontend that it serves alone may promise what nobody else does.
        rig.set_head(net.pool(port::HERE), number::TASK);
        give(&mut rig, net, port::HERE, true);
        client.set_port(client.port() + 1);
        let syn = Packet::syn(client, net.front(port::HERE)).frame();
        left_to_the_stack(&rig.uplink(&syn), &syn, Verdict::Proxied);
    }
}

#[test]
fn a_new_connection_forgets_where_the_one_before_was() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        give(&mut rig, net, port::THERE, true);
        rig.change::<lb_common::table::HeadBlock>("HEAD", net.pool(port::THERE), |block| {
            block.hinted = u64::MAX
        });
        let hint = Hint {
            node: cluster::THIRD,
            ..Hint::default()
        };
        by_family!(net, A => rig.put(&net.map("HINT"), cluster::flow_key::<A>(client, front, TCP), hint));
        let word = Packet::tcp(client, front, ACK).frame();
        let sent = rig.uplink(&word).sent(Verdict::Relayed);
        assert_eq!(open(&sent).outer.destination, [192, 0, 2, 13]);
        let syn = Packet::syn(client, front).frame();
        left_to_the_stack(&rig.uplink(&syn), &syn, Verdict::Proxied);
        let sent = rig.uplink(&word).sent(Verdict::Relayed);
        assert_eq!(open(&sent).outer.destination, [192, 0, 2, 12]);
    }
}

#[test]
fn a_slot_whose_task_only_the_proxy_reaches_is_its_own_beside_others() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, here) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, here);
        rig.set_head(net.pool(port::HERE), BY_PROXY | number::REMOTE);
        let mut other = client;
        other.set_port(43_000);
        for packet in [Packet::syn(other, here), Packet::udp(other, here)] {
            let frame = packet.frame();
            assert_eq!(rig.xdp(&frame).verdict(), Verdict::HandedToTc);
            left_to_the_stack(&rig.uplink(&frame), &frame, Verdict::Proxied);
        }
        // The slot names the node that knows of connections from before.
        let word = Packet::tcp(client, here, ACK).frame();
        let sent = rig.uplink(&word).sent(Verdict::Relayed);
        assert_eq!(open(&sent).outer.destination, [192, 0, 2, 12]);
        rig.set_head(net.pool(port::HERE), BY_PROXY | number::TASK);
        rig.uplink(&word).sent(Verdict::Delivered);
        // Where there is none the kernel says that it is nobody's.
        rig.set_head(net.pool(port::HERE), BY_PROXY | NOBODY_ELSE);
        left_to_the_stack(&rig.uplink(&word), &word, Verdict::Proxied);
        assert_eq!(word[L3 - 2..], rig.uplink(&word).frame[L3 - 2..]);
    }
}

/// As the proxy has one to ask a task in a client's name.
fn in_the_name_of(client: SocketAddr, task: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, None).unwrap();
    if client.is_ipv4() {
        socket.set_ip_transparent_v4(true).unwrap();
    } else {
        socket.set_ip_transparent_v6(true).unwrap();
    }
    socket.bind(&client.into()).unwrap();
    socket.connect(&task.into()).unwrap();
    socket.into()
}

#[test]
fn datagrams_have_another_port_where_the_proxy_asks_their_task_in_the_clients_name() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change::<Pool>("POOL", net.pool(port::HERE), |pool| {
            pool.flags |= pool_flag::TRANSPARENT
        });
        let (mut client, front, task) = (net.client(), net.front(port::HERE), net.task());
        let socket = in_the_name_of(client, task);
        let seen_from = |rig: &mut Rig, client| {
            let sent = rig.uplink(&Packet::udp(client, front).frame());
            read(&sent.sent(Verdict::Delivered)).from
        };
        let alias = seen_from(&mut rig, client);
        assert_eq!(alias.ip(), client.ip());
        assert_ne!(alias.port(), client.port());
        // What the task answers is the proxy's, and the flow's.
        let answer = Packet::udp(task, client).frame();
        left_to_the_stack(&rig.task(&answer), &answer, Verdict::NotOurs);
        let reply = rig.task(&Packet::udp(task, alias).frame());
        let reply = read(&reply.sent(Verdict::Replied));
        assert_eq!((reply.from, reply.to), (front, client));
        drop(socket);
        assert_eq!(seen_from(&mut rig, client), alias, "for as long as it lasts");

        // Sockets of others: to another task, and one that hears all.
        client.set_port(40_001);
        let mut other = task;
        other.set_port(task.port() + 1);
        let _to_another = in_the_name_of(client, other);
        assert_eq!(seen_from(&mut rig, client), client);
        client.set_port(40_002);
        let unspecified = if client.is_ipv4() { "0.0.0.0" } else { "::" };
        let _hearing = UdpSocket::bind((unspecified, client.port())).unwrap();
        assert_eq!(seen_from(&mut rig, client), client);
    }
}

#[test]
fn the_dry_run_says_that_the_proxy_serves_it() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        give(&mut rig, net, port::THERE, true);
        for (packet, step) in [
            (Packet::syn(net.client(), net.front(port::THERE)), Step::Proxied),
            (Packet::tcp(net.client(), net.front(port::THERE), ACK), Step::Sent),
        ] {
            rig.set("TRACE", 0, Trace::BLANK);
            rig.trace(&packet.frame());
            let trace: Trace = rig.get("TRACE", 0);
            assert_eq!(trace.pool, net.pool(port::THERE));
            assert_eq!(trace.node, if step == Step::Sent { THERE } else { trace.node });
            assert_ne!(trace.node, HERE);
            let last = trace.steps[usize::from(trace.len) - 1];
            assert_eq!(last.step, step as u32);
        }
    }
}
