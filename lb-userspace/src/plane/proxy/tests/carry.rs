//! What each side hears of the other.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::rig::{PATIENCE, Rig, read};
use crate::model::ProxyRules;
use crate::plane::proxy::Cause;

#[test]
fn each_way_goes_on_until_its_own_end_whatever_the_size() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    // Larger than any buffer on the way: the kernel moves it, and it waits for the reader.
    let large: Vec<u8> = (0..20_000_000u32).map(|number| (number / 7) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sending = client.try_clone().unwrap();
            sending.write_all(&large).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).unwrap();
        assert!(heard == large);
    });
    // The client has said all; the task has not.
    near.write_all(b"an answer").unwrap();
    assert_eq!(read(&mut client, 9), b"an answer");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            near.write_all(&large).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert!(heard == large);
    });
    rig.wait(Cause::Done, 1);
    let proxy = rig.plane.report().proxy.unwrap();
    assert_eq!(
        (proxy.bytes_to_tasks, proxy.bytes_to_clients),
        (20_000_000, 20_000_010)
    );
}

#[test]
fn a_task_that_has_said_all_goes_on_listening() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    near.write_all(b"all").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"all");
    for word in [b"one", b"two"] {
        client.write_all(word).unwrap();
        assert_eq!(read(&mut near, 3), word);
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    rig.wait(Cause::Done, 1);
}

/// No byte waits for those behind it, however slowly they come, and a slow side is no silent one.
#[test]
fn a_byte_a_second_arrives_a_byte_a_second() {
    let rig = Rig::new(
        1,
        ProxyRules {
            idle: Some(Duration::from_secs(5)),
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    for byte in 0..7 {
        std::thread::sleep(Duration::from_secs(1));
        near.write_all(&[byte]).unwrap();
        assert_eq!(read(&mut client, 1), [byte]);
    }
    drop(near);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    rig.wait(Cause::Done, 1);
}

/// A client that does not read stops its task, not this node: what waits in between is bounded.
#[test]
fn a_side_that_does_not_read_stops_the_other_one() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    near.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (portion, mut sent) = (vec![7; 1 << 20], 0);
    let stopped = loop {
        match near.write(&portion) {
            Ok(more) => sent += more,
            Err(error) => break error,
        }
        assert!(sent < 1 << 28, "it goes on and on");
    };
    assert!(matches!(
        stopped.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    near.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), sent);
}

/// The last bytes and the end are one segment then.
#[test]
fn last_words_arrive_whole_with_the_end_behind_them() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let mut connections = 0;
    for size in [1, 128, 16 << 10, 64 << 10, 300_000] {
        for _ in 0..20 {
            let words: Vec<u8> = (0..size).map(|at: usize| (at / 3) as u8).collect();
            let mut client = rig.client();
            let mut asking = client.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    asking.write_all(&words).unwrap();
                    asking.shutdown(Shutdown::Write).unwrap();
                });
                let (mut near, _) = task.accept().unwrap();
                near.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut heard = Vec::new();
                near.read_to_end(&mut heard).unwrap();
                assert!(heard == words, "{size} to the task");
                scope.spawn(|| {
                    let mut near = near;
                    near.write_all(&words).unwrap();
                });
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).unwrap();
                assert!(heard == words, "{size} to the client");
            });
            connections += 1;
        }
    }
    rig.wait(Cause::Done, connections);
}

/// Large portions that wait for an answer each, and small ones between them: none waits for the next.
#[test]
fn portions_of_all_sizes_arrive_without_those_behind_them() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    for turn in 0..60u8 {
        for size in [300_000, 1, 20_000, 100_000, 128] {
            let portion = vec![turn; size];
            std::thread::scope(|scope| {
                scope.spawn(|| near.write_all(&portion).unwrap());
                assert!(read(&mut client, size) == portion, "{turn}: {size}");
            });
            client.write_all(&[turn]).unwrap();
            assert_eq!(read(&mut near, 1), [turn]);
        }
    }
}

/// Its handshake is not over only when the client speaks.
#[test]
fn a_task_that_speaks_first_is_heard_by_a_silent_client() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let mut client = rig.client();
    let (mut near, _) = task.accept().unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    near.write_all(b"220 ready").unwrap();
    assert_eq!(read(&mut client, 9), b"220 ready");
    client.write_all(b"EHLO").unwrap();
    assert_eq!(read(&mut near, 4), b"EHLO");
}

/// Nobody reads from it any more, nor writes to it: the other one may take its time.
#[test]
fn who_has_said_all_and_is_reset_is_missed() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let reset = |stream: TcpStream| {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (client, mut near) = rig.pair(&task);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    reset(client);
    rig.wait(Cause::ClientReset, 1);
    let (mut client, near) = rig.pair(&task);
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    reset(near);
    rig.wait(Cause::TaskReset, 1);
}
