//! Super-packets, from clients and from tasks.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::super::kernel;
use super::*;

/// Datagrams of 400 bytes and a shorter one, each told from the others by its content.
fn numbered(many: usize) -> Vec<u8> {
    let mut content: Vec<u8> = (0..many).flat_map(|number| [number as u8; 400]).collect();
    content.extend([255; 100]);
    content
}

/// Sends several datagrams of 400 bytes as one super-packet, or one by one where the kernel has none.
fn send_together(socket: &UdpSocket, to: Option<SocketAddr>, content: &[u8]) {
    let size = 400;
    let to = to.map(SockaddrStorage::from);
    let send = |content: &[u8], notes: &[ControlMessage<'_>]| {
        let parts = [IoSlice::new(content)];
        sendmsg(socket.as_raw_fd(), &parts, notes, MsgFlags::empty(), to.as_ref()).unwrap();
    };
    if kernel::cuts() {
        send(content, &[ControlMessage::UdpGsoSegments(&size)]);
    } else {
        content
            .chunks(size.into())
            .for_each(|datagram| send(datagram, &[]));
    }
}

/// The first byte and the length of so many datagrams.
async fn gather(socket: &UdpSocket, many: usize) -> BTreeSet<(u8, usize)> {
    let mut gathered = BTreeSet::new();
    for _ in 0..many {
        let datagram = receive(socket).await.unwrap();
        assert!(datagram.iter().all(|byte| *byte == datagram[0]));
        gathered.insert((datagram[0], datagram.len()));
    }
    gathered
}

fn expected(many: usize) -> BTreeSet<(u8, usize)> {
    (0..many as u8)
        .map(|number| (number, 400))
        .chain([(255, 100)])
        .collect()
}

#[test]
fn super_packets_are_carried_both_ways_with_their_datagrams_as_they_were() {
    both(async || {
        for address in ["127.0.0.1", "::1"] {
            let task = UdpSocket::bind((address, 0)).await.unwrap();
            let bed = Bed::new(
                &SocketAddr::new(address.parse().unwrap(), 0).to_string(),
                Members::of([task.local_addr().unwrap()]),
            );
            let client = bed.client().await;
            send_together(&client, None, &numbered(40));
            let mut buffer = [0; 1000];
            let (_, flow) = timeout(PATIENCE, task.peek_from(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(gather(&task, 41).await, expected(40));
            assert_eq!(count(&bed.counters.to_tasks.datagrams), 41);
            assert_eq!(count(&bed.counters.to_tasks.bytes), 40 * 400 + 100);
            // All came from one flow's socket, which takes the way back.
            send_together(&task, Some(flow), &numbered(30));
            assert_eq!(gather(&client, 31).await, expected(30));
            assert_eq!(count(&bed.counters.to_clients.datagrams), 31);
            assert_eq!(bed.shared.flows(), 1);
        }
    });
}

#[test]
fn single_datagrams_of_one_client_arrive_in_order() {
    both(async || {
        let task = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bed = Bed::new("127.0.0.1:0", Members::of([task.local_addr().unwrap()]));
        let clients = [bed.client().await, bed.client().await];
        for client in &clients {
            client.writable().await.unwrap();
        }
        // Sent before the frontend has its turn: they come as one batch.
        for number in 0..20_u8 {
            for (client, sender) in clients.iter().zip(0..) {
                let length = 300 - usize::from(number / 7);
                let content = [&[sender, number][..], &vec![0; length]].concat();
                client.try_send(&content).unwrap();
            }
        }
        let mut next = [0_u8; 2];
        for _ in 0..40 {
            let datagram = receive(&task).await.unwrap();
            let sender = usize::from(datagram[0]);
            assert_eq!(datagram[1], next[sender]);
            assert_eq!(datagram.len(), 302 - usize::from(datagram[1] / 7));
            next[sender] += 1;
        }
        assert_eq!(next, [20, 20]);
    });
}

#[test]
fn more_than_a_batch_holds_is_carried_too() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        let mut clients = Vec::new();
        for _ in 0..150 {
            clients.push(bed.client().await);
        }
        for client in &clients {
            client.writable().await.unwrap();
        }
        for client in &clients {
            client.try_send(b"hello").unwrap();
            client.try_send(b"again").unwrap();
        }
        for client in &clients {
            assert_eq!(receive(client).await.unwrap(), b"a:hello");
            assert_eq!(receive(client).await.unwrap(), b"a:again");
        }
    });
}

#[test]
fn datagrams_that_a_device_does_not_take_together_go_one_by_one() {
    // A network of this thread alone, whose device takes no datagram of that size whole.
    let can = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok() && {
        let up = ["link", "set", "lo", "up", "mtu", "1500"];
        let ip = std::process::Command::new("ip").args(up).status();
        ip.is_ok_and(|status| status.success())
    };
    if !can {
        assert!(
            std::env::var_os("CI").is_none(),
            "a network namespace and ip(8) are needed"
        );
        eprintln!("SKIPPED: no network namespace, or no ip(8)");
        return;
    }
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        let client = bed.client().await;
        client.writable().await.unwrap();
        for _ in 0..3 {
            for number in 0..5 {
                client.try_send(&[number; 2000]).unwrap();
            }
            let mut answers = BTreeSet::new();
            for _ in 0..5 {
                let answer = receive(&client).await.unwrap();
                assert_eq!(answer.len(), 2002);
                answers.insert(answer[2]);
            }
            assert_eq!(answers, (0..5).collect());
        }
        assert_eq!(bed.counters.lost(Loss::Failed), 0);
    });
}
