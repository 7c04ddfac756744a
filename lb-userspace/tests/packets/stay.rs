//! In clusters of nodes with and without packet programs, a client's datagrams stay where they went while that is served.

use std::net::SocketAddr;

use lb_common::key::{FlowKey, UDP};
use lb_common::table::{
    BY_PROXY, HeadBlock, Hint, Last, Member, NOBODY_ELSE, Node, Pool, Settings, local_state, member_flag,
    node_flag, pool_flag,
};
use lb_common::trace::{Step, Trace};
use lb_common::{Verdict, tick};

use crate::by_family;
use crate::cluster::{self, BOTH, Net, REMOTE, TASK, THERE, THIRD, number, port};
use crate::frame::{ACK, Packet, icmp_error, open, read};
use crate::proxied::give;
use crate::relay;
use crate::rig::{Rig, TC_UNSPEC, XDP_PASS};

/// What the agent says of a pool in such a cluster, whose proxy serves it beside packet programs.
const MIXED: u32 = pool_flag::MIXED | pool_flag::SHARED | pool_flag::HOST_SOCKETS;

/// A cluster of both kinds.
fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    for net in BOTH {
        flag(&mut rig, net, MIXED);
    }
    Some(rig)
}

fn flag(rig: &mut Rig, net: Net, flags: u32) {
    for at in [port::HERE, port::THERE] {
        rig.change::<Pool>("POOL", net.pool(at), |pool| pool.flags = flags);
    }
}

/// What is remembered of the flow.
fn last(rig: &Rig, net: Net, client: SocketAddr, front: SocketAddr) -> Option<Last> {
    by_family!(net, A => rig.look(&net.map("LAST"), cluster::flow_key::<A>(client, front, UDP)))
}

fn remember(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr, last: Last) {
    by_family!(net, A => rig.put(&net.map("LAST"), cluster::flow_key::<A>(client, front, UDP), last));
}

/// Clients that were not there before.
fn clients(net: Net) -> impl Iterator<Item = SocketAddr> {
    (net.client().port()..).map(move |port| SocketAddr::new(net.client().ip(), port))
}

/// Where a datagram of the client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Proxy,
    /// The task of this node.
    Here,
    /// Another node, by the last byte of its address.
    Node(u16),
}

#[track_caller]
fn sent(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr) -> To {
    let frame = Packet::udp(client, front).frame();
    let ran = rig.uplink(&frame);
    match ran.verdict() {
        Verdict::Proxied => {
            assert_eq!((ran.action, &ran.frame), (TC_UNSPEC, &frame));
            To::Proxy
        }
        Verdict::Delivered => {
            assert_eq!(read(&ran.frame).to, net.task());
            To::Here
        }
        Verdict::Relayed => To::Node(open(&ran.frame).outer.destination[3].into()),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_flow_stays_with_its_member_when_its_slot_becomes_the_proxys() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let mut clients = clients(net);
        for (at, member, to) in [
            (port::HERE, number::TASK, To::Here),
            (port::THERE, number::REMOTE, To::Node(THERE)),
        ] {
            let (client, front) = (clients.next().unwrap(), net.front(at));
            assert_eq!(sent(&mut rig, net, client, front), to);
            for beside in [number::SECOND, number::REMOTE, number::TASK, NOBODY_ELSE] {
                rig.set_head(net.pool(at), BY_PROXY | beside);
                assert_eq!(sent(&mut rig, net, client, front), to);
                // Whoever is new goes to the proxy, and so does a new connection of the same client.
                assert_eq!(sent(&mut rig, net, clients.next().unwrap(), front), To::Proxy);
                let syn = Packet::syn(client, front).frame();
                assert_eq!(rig.uplink(&syn).verdict(), Verdict::Proxied);
            }
            rig.set_head(net.pool(at), member);
        }
    }
}

#[test]
fn the_owner_is_told_which_member_is_meant() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        sent(&mut rig, net, client, front);
        rig.set_head(net.pool(port::THERE), number::TASK);
        let frame = Packet::udp(client, front).frame();
        let opened = open(&rig.uplink(&frame).sent(Verdict::Relayed));
        assert_eq!(opened.tunnel.member, REMOTE.to_be_bytes());
        // XDP leaves it to tc.
        let ran = rig.xdp(&frame);
        assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
    }
}

#[test]
fn a_flow_stays_with_the_proxy_when_its_slot_becomes_a_members() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let mut clients = clients(net);
        let (client, front) = (clients.next().unwrap(), net.front(port::HERE));
        rig.set_head(net.pool(port::HERE), BY_PROXY | number::REMOTE);
        assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
        for (member, to) in [(number::REMOTE, To::Node(THERE)), (number::TASK, To::Here)] {
            rig.set_head(net.pool(port::HERE), member);
            assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
            assert_eq!(sent(&mut rig, net, clients.next().unwrap(), front), to);
            // What a router has against something that the proxy sent.
            let error = icmp_error(net.router(), &Packet::udp(front, client).frame());
            assert_eq!(rig.uplink(&error).verdict(), Verdict::Proxied);
        }
    }
}

/// What makes a member one that is not asked any more.
type Change = fn(&mut Rig);

#[test]
fn a_flow_whose_member_is_not_served_any_more_follows_the_head() {
    let Some(mut rig) = rig() else { return };
    let at = u32::from(number::REMOTE);
    let healthy: Member = rig.get("MEMBER", at);
    let up: Node = rig.get("NODE", THERE.into());
    let changes: [Change; 3] = [
        // Gone, and another one in its place.
        |rig| rig.change::<Member>("MEMBER", number::REMOTE.into(), |member| member.tag += 1),
        |rig| {
            rig.change::<Member>("MEMBER", number::REMOTE.into(), |member| {
                member.flags = member_flag::LEFT
            });
        },
        |rig| rig.change::<Node>("NODE", THERE.into(), |node| node.flags |= node_flag::DOWN),
    ];
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (mut clients, front, pool) = (clients(net), net.front(port::HERE), net.pool(port::HERE));
        for change in changes {
            for (head, to) in [
                (number::TASK, To::Here),
                (BY_PROXY | number::TASK, To::Proxy),
                (BY_PROXY | NOBODY_ELSE, To::Proxy),
            ] {
                let client = clients.next().unwrap();
                rig.set_head(pool, number::REMOTE);
                assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
                rig.set_head(pool, head);
                assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
                change(&mut rig);
                assert_eq!(sent(&mut rig, net, client, front), to);
                // There it stays.
                rig.set("MEMBER", at, healthy);
                rig.set("NODE", THERE.into(), up);
                rig.set_head(pool, number::REMOTE);
                assert_eq!(sent(&mut rig, net, client, front), to);
            }
        }
    }
}

#[test]
fn a_flow_of_a_proxy_that_does_not_serve_any_more_follows_the_head() {
    let Some(mut rig) = rig() else { return };
    let settings: Settings = rig.get("SETTINGS", 0);
    for net in BOTH {
        let (mut clients, front, pool) = (clients(net), net.front(port::THERE), net.pool(port::THERE));
        for alive in [true, false] {
            let client = clients.next().unwrap();
            rig.set_head(pool, BY_PROXY | NOBODY_ELSE);
            assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
            rig.set_head(pool, number::REMOTE);
            if alive {
                flag(&mut rig, net, MIXED & !pool_flag::SHARED);
            } else {
                rig.change::<Settings>("SETTINGS", 0, |settings| {
                    settings.alive = relay::now() - tick::from_seconds(10)
                });
            }
            assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
            rig.set("SETTINGS", 0, settings);
            flag(&mut rig, net, MIXED);
            assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        }
    }
}

#[test]
fn a_member_is_found_wherever_its_pool_moves_and_in_no_other_pool() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front, pool) = (net.client(), net.front(port::THERE), net.pool(port::THERE));
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        for offset in 0..5u32 {
            let member: Member = rig.get("MEMBER", offset);
            rig.set("MEMBER", 100 + offset, member);
        }
        rig.change::<Pool>("POOL", pool, |pool| pool.members = 100);
        rig.set_head(pool, BY_PROXY | NOBODY_ELSE);
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        // What lies behind its room is somebody else's.
        rig.change::<Pool>("POOL", pool, |pool| pool.room = number::REMOTE.into());
        assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
    }
}

#[test]
fn nothing_is_remembered_where_all_nodes_are_of_one_kind() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        flag(&mut rig, net, pool_flag::HOST_SOCKETS);
        for at in [port::HERE, port::THERE] {
            let (client, front) = (net.client(), net.front(at));
            sent(&mut rig, net, client, front);
            assert_eq!(last(&rig, net, client, front), None);
            // What is left of other times is not looked at.
            remember(&mut rig, net, client, front, Last::default());
            assert_ne!(sent(&mut rig, net, client, front), To::Proxy);
        }
    }
}

#[test]
fn datagrams_are_remembered_and_nothing_else_is() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        let empty = |rig: &Rig| {
            by_family!(net, A => {
                rig.all::<FlowKey<A>, Last>(&net.map("LAST")).is_empty()
            })
        };
        for frame in [
            Packet::syn(client, front).frame(),
            Packet::tcp(client, front, ACK).frame(),
            icmp_error(net.router(), &Packet::udp(front, client).frame()),
            icmp_error(net.router(), &Packet::tcp(front, client, ACK).frame()),
        ] {
            rig.uplink(&frame);
            assert!(empty(&rig));
        }
        rig.change::<Pool>("POOL", net.pool(port::NOBODY), |pool| pool.flags = MIXED);
        rig.uplink(&Packet::udp(client, net.front(port::NOBODY)).frame())
            .dropped(Verdict::NoMember);
        assert!(empty(&rig));
        sent(&mut rig, net, client, front);
        let known = last(&rig, net, client, front).unwrap();
        assert_eq!((known.tag, known.member), (REMOTE, number::REMOTE.into()));
    }
}

#[test]
fn a_flow_that_a_task_here_has_comes_first() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front, pool) = (net.client(), net.front(port::HERE), net.pool(port::HERE));
        // As if it had begun by another ingress.
        flag(&mut rig, net, 0);
        assert_eq!(sent(&mut rig, net, client, front), To::Here);
        flag(&mut rig, net, MIXED);
        for beside in [number::REMOTE, number::TASK, NOBODY_ELSE] {
            rig.set_head(pool, BY_PROXY | beside);
            assert_eq!(sent(&mut rig, net, client, front), To::Here);
        }
        rig.change_local(TASK, |local| local.state = local_state::UNHEALTHY);
        assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
    }
}

#[test]
fn a_flow_that_has_left_its_task_for_the_proxy_stays_there_when_the_task_recovers() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (mut clients, front, pool) = (clients(net), net.front(port::HERE), net.pool(port::HERE));
        for answered in [false, true] {
            let client = clients.next().unwrap();
            rig.set_head(pool, number::TASK);
            assert_eq!(sent(&mut rig, net, client, front), To::Here);
            let answer = Packet::udp(net.task(), client).frame();
            if answered {
                rig.task(&answer).sent(Verdict::Replied);
            }
            rig.set_head(pool, BY_PROXY | number::TASK);
            rig.change::<Member>("MEMBER", number::TASK.into(), |member| {
                member.flags = member_flag::LEFT
            });
            rig.change_local(TASK, |local| local.state = local_state::UNHEALTHY);
            // What a router has against an earlier answer moves nothing.
            let error = icmp_error(net.router(), &Packet::udp(front, client).frame());
            rig.uplink(&error);
            assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
            // It was asked before.
            rig.task(&answer).sent(Verdict::Replied);
            rig.change::<Member>("MEMBER", number::TASK.into(), |member| member.flags = 0);
            rig.change_local(TASK, |local| local.state = local_state::ACTIVE);
            for head in [BY_PROXY | number::TASK, number::TASK] {
                rig.set_head(pool, head);
                assert_eq!(
                    sent(&mut rig, net, client, front),
                    To::Proxy,
                    "answered: {answered}"
                );
            }
            assert_eq!(sent(&mut rig, net, clients.next().unwrap(), front), To::Here);
        }
    }
}

#[test]
fn a_frontend_of_the_proxy_is_not_remembered() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (mut clients, front) = (clients(net), net.front(port::THERE));
        let client = clients.next().unwrap();
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        let other = clients.next().unwrap();
        give(&mut rig, net, port::THERE, true);
        for client in [client, other] {
            assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
        }
        give(&mut rig, net, port::THERE, false);
        for client in [client, other] {
            assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        }
    }
}

/// Another node holds the flow, as the ingress has heard.
fn hint(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr, node: u16) {
    hint_bits(rig, net.pool(port::THERE));
    let hint = Hint {
        node,
        ..Hint::default()
    };
    by_family!(net, A => rig.put(&net.map("HINT"), cluster::flow_key::<A>(client, front, UDP), hint));
}

#[test]
fn a_hint_comes_first() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front, pool) = (net.client(), net.front(port::THERE), net.pool(port::THERE));
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
        hint(&mut rig, net, client, front, THIRD);
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THIRD));
        rig.set_head(pool, BY_PROXY | NOBODY_ELSE);
        assert_eq!(sent(&mut rig, net, client, front), To::Node(THIRD));
    }
}

#[test]
fn a_hint_ends_when_the_flow_goes_to_the_proxy() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front, pool) = (net.client(), net.front(port::THERE), net.pool(port::THERE));
        hint(&mut rig, net, client, front, THIRD);
        for head in [BY_PROXY | NOBODY_ELSE, number::REMOTE] {
            rig.set_head(pool, head);
            hint_bits(&mut rig, pool);
            assert_eq!(sent(&mut rig, net, client, front), To::Proxy);
        }
    }
}

/// As the agent leaves them when it writes heads.
fn hint_bits(rig: &mut Rig, pool: u32) {
    rig.change::<HeadBlock>("HEAD", pool, |block| block.hinted = u64::MAX);
}

#[test]
fn a_hint_to_a_node_that_takes_no_datagrams_is_passed_over() {
    let Some(mut rig) = rig() else { return };
    let up: Node = rig.get("NODE", THIRD.into());
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        hint(&mut rig, net, client, front, THIRD);
        for flag in [node_flag::BARE, node_flag::DOWN] {
            rig.change::<Node>("NODE", THIRD.into(), |node| node.flags |= flag);
            assert_eq!(sent(&mut rig, net, client, front), To::Node(THERE));
            rig.set("NODE", THIRD.into(), up);
            assert_eq!(sent(&mut rig, net, client, front), To::Node(THIRD));
        }
    }
}

#[test]
fn a_flow_that_was_silent_for_long_is_a_new_one() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        for (seconds, to) in [(60, To::Proxy), (240, To::Node(THERE))] {
            let proxy = Last {
                tick: relay::now() - tick::from_seconds(seconds),
                ..Last::default()
            };
            remember(&mut rig, net, client, front, proxy);
            assert_eq!(sent(&mut rig, net, client, front), to);
            let known = last(&rig, net, client, front).unwrap();
            assert!(tick::elapsed(relay::now(), known.tick) < tick::from_seconds(30));
        }
    }
}

#[test]
fn the_dry_run_says_that_a_flow_stays() {
    let Some(mut rig) = rig() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        sent(&mut rig, net, client, front);
        let known = last(&rig, net, client, front);
        rig.set_head(net.pool(port::THERE), BY_PROXY | NOBODY_ELSE);
        rig.set("TRACE", 0, Trace::BLANK);
        rig.trace(&Packet::udp(client, front).frame());
        let trace: Trace = rig.get("TRACE", 0);
        let steps = trace.steps[..usize::from(trace.len)].iter();
        let steps: Vec<Step> = steps.filter_map(|taken| Step::of(taken.step)).collect();
        assert!(
            steps.contains(&Step::Stays) && !steps.contains(&Step::Proxied),
            "{steps:?}"
        );
        assert_eq!((trace.member, trace.node), (REMOTE, THERE));
        assert_eq!(last(&rig, net, client, front), known);
        // Of a stranger it leaves nothing behind.
        let other = clients(net).nth(1).unwrap();
        rig.trace(&Packet::udp(other, front).frame());
        assert_eq!(last(&rig, net, other, front), None);
    }
}
