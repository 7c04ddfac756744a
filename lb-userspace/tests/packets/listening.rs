//! New connections never meet a task that has stopped listening: the owner asks the task's own kernel.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use lb_common::Verdict;
use lb_common::key::TCP;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use crate::cluster::{self, BOTH, Net, TASK, port};
use crate::frame::{Packet, read};
use crate::handshake::{ISN, acknowledge, answer};
use crate::rig::{Rig, shell};

/// A task's namespace, held by a thread of its own that does what it is told there.
struct Task {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    /// Moves the task's end of the device `task0` into a new namespace, and gives the task's id as the rig's namespace
    /// knows it.
    fn new() -> (Self, i32) {
        let (work, orders) = channel::<Box<dyn FnOnce() + Send>>();
        let (finished, done) = channel();
        let (here, id) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            here.send(nix::unistd::gettid()).unwrap();
            for order in orders {
                order();
                finished.send(()).unwrap();
            }
        });
        let thread_id = id.recv().expect("the task's thread");
        shell(&format!("ip link set task0-peer netns {thread_id}"));
        // The kernel gives the namespace an id when a device's other end is in it.
        let line = shell("ip -o link show task0");
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words
            .iter()
            .position(|&word| word == "link-netnsid")
            .expect("an id");
        let task = Self {
            work: Some(work),
            done,
            thread: Some(thread),
        };
        task.run(|| {
            shell(
                "ip link set lo up
                 ip link set task0-peer up
                 ip address add 172.18.0.2/16 dev task0-peer
                 ip address add 2001:db8:18::2/64 dev task0-peer nodad
                 ip address add 198.51.100.7/32 dev lo
                 ip address add 2001:db8:c::7/128 dev lo nodad",
            );
        });
        (task, words[at + 1].parse().expect("a number"))
    }

    /// Runs `order` in the namespace and waits for it.
    fn run(&self, order: impl FnOnce() + Send + 'static) {
        self.work.as_ref().unwrap().send(Box::new(order)).unwrap();
        self.done.recv().expect("the task's thread did as told");
    }

    fn get<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        self.run(move || sender.send(order()).unwrap());
        receiver.recv().unwrap()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.work.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

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
