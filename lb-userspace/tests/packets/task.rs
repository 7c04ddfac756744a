//! A task with a kernel of its own to ask.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use socket2::{SockRef, Socket};

use crate::frame::L3;
use crate::rig::shell;

/// Ethernet address of the task's end of its device.
const ETHERNET: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A task's namespace, held by a thread of its own that does what it is told there.
pub struct Task {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    /// Moves the task's end of the device `task0` into a new namespace, and gives the task's id as the rig's namespace
    /// knows it.
    pub fn new() -> (Self, i32) {
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
                 ip link set task0-peer address 02:00:00:00:00:02 up
                 ip address add 172.18.0.2/16 dev task0-peer
                 ip address add 2001:db8:18::2/64 dev task0-peer nodad
                 ip address add 198.51.100.7/32 dev lo
                 ip address add 2001:db8:c::7/128 dev lo nodad
                 ip route add 198.51.100.0/24 dev task0-peer
                 ip route add 2001:db8:c::/64 dev task0-peer
                 ip neighbour replace 198.51.100.9 lladdr 02:00:00:00:00:03 dev task0-peer nud permanent
                 ip neighbour replace 2001:db8:c::9 lladdr 02:00:00:00:00:03 dev task0-peer nud permanent",
            );
            // The kernel serves a new IPv6 address once it has had the lock of all network devices (`addrconf_dad_work`), for which
            // it waits while other namespaces end. Until then it looks for a neighbour that has the address.
            let end = Instant::now() + Duration::from_secs(30);
            for own in ["2001:db8:18::2", "2001:db8:c::7"] {
                while !shell(&format!("ip -6 route get {own}")).starts_with("local ") {
                    assert!(Instant::now() < end, "{own} is not the task's own");
                }
            }
        });
        (task, words[at + 1].parse().expect("a number"))
    }

    /// Runs `order` in the namespace and waits for it.
    pub fn run(&self, order: impl FnOnce() + Send + 'static) {
        self.work.as_ref().unwrap().send(Box::new(order)).unwrap();
        self.done.recv().expect("the task's thread did as told");
    }

    pub fn get<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> T {
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

/// The host's end of the task's device.
pub struct Wire(Socket);

impl Wire {
    pub fn new() -> Self {
        let every = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a new socket, checked and then owned by nobody else.
        let socket = unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, every.into());
            assert!(socket >= 0, "a packet socket");
            OwnedFd::from_raw_fd(socket)
        };
        // SAFETY: sockaddr_ll is integers only, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every;
        address.sll_ifindex = crate::cluster::task_device() as i32;
        // SAFETY: the pointer and the length are those of `address`.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(bound, 0, "a packet socket on the task's device");
        SockRef::from(&socket)
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Self(socket.into())
    }

    /// Hands the task a frame that a program would have redirected to it.
    pub fn send(&self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        frame[..6].copy_from_slice(&ETHERNET);
        self.0.send(&frame).unwrap();
    }

    /// What the task sends next to `client` over TCP.
    pub fn receive(&self, client: SocketAddr) -> Vec<u8> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
        loop {
            let length = self.0.recv(&mut buffer).expect("a frame from the task");
            // SAFETY: so many bytes were written.
            let frame: Vec<u8> = buffer[..length]
                .iter()
                .map(|byte| unsafe { byte.assume_init() })
                .collect();
            let protocol = if client.is_ipv4() { L3 + 9 } else { L3 + 6 };
            if frame[6..12] == ETHERNET && frame.get(protocol) == Some(&lb_common::key::TCP) {
                return frame;
            }
        }
    }
}
