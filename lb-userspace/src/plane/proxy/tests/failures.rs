//! Tasks and clients that fail, each in its own way.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::rig::{Home, PATIENCE, Rig, is_reset, read};
use crate::model::{Family, ProxyRules};
use crate::plane::proxy::Cause;

#[rstest]
fn whoever_breaks_off_is_told_of_on_the_other_side(#[values(Home::Here, Home::There)] home: Home) {
    let rig = Rig::at(home, 1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, near) = rig.pair(&task);
    socket2::SockRef::from(&near)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(near);
    is_reset(&mut client);
    rig.wait(Cause::TaskReset, 1);
    let (client, mut near) = rig.pair(&task);
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    is_reset(&mut near);
    rig.wait(Cause::ClientReset, 1);
}

#[test]
fn a_client_whose_task_refuses_gets_another_one() {
    let rig = Rig::new(
        3,
        ProxyRules {
            retries: 2,
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(1);
    for _ in 0..30 {
        let (mut client, mut near) = rig.pair(&task);
        client.write_all(b"x").unwrap();
        assert_eq!(read(&mut near, 1), b"x");
    }
    assert!(rig.plane.report().proxy.unwrap().retries > 0);
    drop(task);
    // Nobody is left: the client is told.
    is_reset(&mut rig.client());
    rig.wait(Cause::Refused, 1);
}

/// However few are tried at once, and although others are served meanwhile.
#[test]
fn a_client_whose_tasks_all_refuse_gets_one_that_it_has_not_asked() {
    const CLIENTS: usize = 20;
    let rules = ProxyRules {
        retries: 1,
        ..ProxyRules::default()
    };
    let rig = Rig::new(6, rules);
    let task = rig.listen(5);
    let serving = std::thread::spawn(move || {
        for near in task.incoming().take(CLIENTS) {
            near.unwrap().write_all(b"!").unwrap();
        }
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| rig.client()).collect();
    for client in &mut clients {
        assert_eq!(read(client, 1), b"!");
    }
    serving.join().unwrap();
}

#[test]
fn no_more_tasks_are_asked_for_a_client_than_its_service_says() {
    let rules = ProxyRules {
        retries: 1,
        ..ProxyRules::default()
    };
    let mut rig = Rig::new(4, rules);
    // One worker, that knows from the first client on that nobody takes them: it asks again for that one, and not for the next.
    rig.replace(1, |_| {});
    let retries = || rig.plane.report().proxy.unwrap().retries;
    is_reset(&mut rig.client());
    let before = retries();
    is_reset(&mut rig.client());
    assert_eq!(retries() - before, 1);
    rig.wait(Cause::Refused, 2);
}

#[test]
fn a_port_that_is_taken_is_said_and_served_once_it_is_free() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.frontends[0].port = port;
    rig.apply();
    let problems = rig.plane.report().problems;
    assert!(problems[0].error.contains(&port.to_string()), "{problems:?}");
    drop(taken);
    let began = Instant::now();
    while !rig.plane.report().problems.is_empty() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let task = rig.listen(0);
    rig.pair(&task);
}

/// This node may be the last to hear of a new task: until then it does not send clients away.
#[test]
fn who_finds_nobody_waits_for_somebody() {
    let rules = ProxyRules {
        retries: 1,
        ..ProxyRules::default()
    };
    let mut rig = Rig::new(2, rules);
    let mut refused = rig.client();
    // Both have been asked, and then again.
    rig.until(|proxy| proxy.retries > 1);
    let task = rig.listen(0);
    let (mut near, _) = task.accept().unwrap();
    near.write_all(b"!").unwrap();
    assert_eq!(read(&mut refused, 1), b"!");
    // The same where there is no task at all.
    let before = rig.snapshot.clone();
    for pool in &mut rig.snapshot.pools {
        Arc::make_mut(pool).members.clear();
    }
    rig.snapshot.generation += 1;
    rig.apply();
    let mut early = rig.client();
    rig.until(|proxy| proxy.opened == 2);
    rig.snapshot = before;
    rig.apply();
    let (mut near, _) = task.accept().unwrap();
    near.write_all(b"!").unwrap();
    assert_eq!(read(&mut early, 1), b"!");
}

/// The socket that was made for it when it came is of no use then.
#[test]
fn who_waits_is_taken_by_the_first_task_of_the_other_family() {
    let mut rig = Rig::new(2, ProxyRules::default());
    let [v4, v6] = [Family::V4, Family::V6].map(|family| {
        let mut pools = rig.snapshot.pools.iter();
        pools.position(|pool| pool.family == family).unwrap()
    });
    let mut members = std::mem::take(&mut Arc::make_mut(&mut rig.snapshot.pools[v4]).members);
    rig.snapshot.generation += 1;
    rig.apply();
    let mut early = rig.client();
    rig.until(|proxy| proxy.opened == 1);
    let address = Ipv6Addr::LOCALHOST.into();
    members.iter_mut().for_each(|member| member.address = address);
    Arc::make_mut(&mut rig.snapshot.pools[v6]).members = members;
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    for backend in &mut service.backends {
        backend.addresses = vec![address];
    }
    let task = TcpListener::bind((address, rig.tasks[0].port())).unwrap();
    rig.snapshot.generation += 1;
    rig.apply();
    let (mut near, _) = task.accept().unwrap();
    near.write_all(b"!").unwrap();
    assert_eq!(read(&mut early, 1), b"!");
    // Both are there: the first one that is asked takes it.
    assert_eq!(rig.plane.report().proxy.unwrap().retries, 0);
}

/// Its backlog is full, so its kernel says nothing to whoever else wants to connect.
fn black_hole(listener: &TcpListener) -> Vec<socket2::Socket> {
    let address = listener.local_addr().unwrap();
    socket2::SockRef::from(listener).listen(0).unwrap();
    let mut filling = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let full = socket
            .connect_timeout(&address.into(), Duration::from_millis(300))
            .is_err();
        filling.push(socket);
        if full {
            return filling;
        }
    }
}

/// After the time that its service gives a task, which here is longer than where nothing is said of it.
#[test]
fn a_client_whose_task_says_nothing_gets_another_one_in_time() {
    let rules = ProxyRules {
        connect_timeout: ProxyRules::CONNECT_TIMEOUT + Duration::from_secs(1),
        retries: 1,
        ..ProxyRules::default()
    };
    let patience = rules.connect_timeout;
    let rig = Rig::new(2, rules);
    let silent = rig.listen(0);
    let _filling = black_hole(&silent);
    let task = rig.listen(1);
    // Of so many at least one is led to the silent one first.
    let waited = (0..30).find_map(|_| {
        let began = Instant::now();
        rig.pair(&task);
        (rig.plane.report().proxy.unwrap().retries > 0).then(|| began.elapsed())
    });
    let waited = waited.unwrap();
    assert!((patience..PATIENCE).contains(&waited), "{waited:?}");
}

#[test]
fn a_client_whose_every_task_says_nothing_is_reset() {
    let rules = ProxyRules {
        connect_timeout: Duration::from_millis(300),
        retries: 0,
        ..ProxyRules::default()
    };
    let rig = Rig::new(1, rules);
    let silent = rig.listen(0);
    let _filling = black_hole(&silent);
    is_reset(&mut rig.client());
    rig.wait(Cause::TimedOut, 1);
}

#[test]
fn a_client_that_gives_up_while_nobody_takes_it_is_not_kept() {
    let rig = Rig::new(1, ProxyRules::default());
    let client = rig.client();
    rig.until(|proxy| proxy.opened == 1);
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    rig.wait(Cause::Abandoned, 1);
}

/// Whatever a task does in the middle of an answer, its client does not take what it has for the whole.
#[test]
fn a_task_that_breaks_off_in_the_middle_of_much_is_told_of() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let broken = std::thread::spawn(move || {
        near.write_all(&vec![1; 8 << 20]).unwrap();
        socket2::SockRef::from(&near)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let mut heard = Vec::new();
    let error = client.read_to_end(&mut heard).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    broken.join().unwrap();
    rig.wait(Cause::TaskReset, 1);
}

/// As servers refuse what is too large.
#[test]
fn the_answer_of_a_task_that_does_not_hear_its_client_out_arrives() {
    let rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    for turn in 0..50 {
        let mut client = rig.client();
        let mut sending = client.try_clone().unwrap();
        let sending = std::thread::spawn(move || while sending.write_all(&[7; 65_536]).is_ok() {});
        let (mut near, _) = task.accept().unwrap();
        assert_eq!(read(&mut near, 1), [7]);
        near.write_all(b"too large").unwrap();
        // With unread bytes: the kernel resets it.
        drop(near);
        assert_eq!(read(&mut client, 9), b"too large", "{turn}");
        drop(client);
        sending.join().unwrap();
    }
    rig.wait(Cause::TaskReset, 50);
}
