//! What becomes of connections when their task, or its service, has them end.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::rig::{Home, Rig, is_reset, read};
use crate::model::{Algorithm, ProxyRules, Standing};
use crate::plane::proxy::Cause;

#[test]
fn connections_end_with_their_member_and_are_counted_until_then() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    client.write_all(b"x").unwrap();
    read(&mut near, 1);
    assert_eq!(rig.plane.report().flows.established, 1);
    for pool in &mut rig.snapshot.pools {
        Arc::make_mut(pool).members.clear();
    }
    rig.apply();
    is_reset(&mut client);
    is_reset(&mut near);
    rig.wait(Cause::MemberGone, 1);
    assert_eq!(rig.plane.report().flows.established, 0);
    is_reset(&mut rig.client());
    rig.wait(Cause::NoMember, 1);
}

#[rstest]
fn a_draining_task_keeps_its_connections_as_long_as_its_service_allows(
    #[values(Home::Here, Home::There)] home: Home,
) {
    let mut rig = Rig::at(
        home,
        1,
        ProxyRules {
            drain: Some(Duration::from_millis(1500)),
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.backends[0].standing = Standing::Draining;
    let began = Instant::now();
    rig.apply();
    client.write_all(b"x").unwrap();
    assert_eq!(read(&mut near, 1), b"x");
    is_reset(&mut client);
    assert!(
        began.elapsed() > Duration::from_millis(1400),
        "{:?}",
        began.elapsed()
    );
    rig.wait(Cause::Drained, 1);
}

#[test]
fn a_service_may_think_better_of_how_long_its_tasks_drain() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    for drain in [None, Some(Duration::from_hours(1)), Some(Duration::ZERO)] {
        client.write_all(b"x").unwrap();
        assert_eq!(read(&mut near, 1), b"x");
        let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
        service.backends[0].standing = Standing::Draining;
        service.proxy.drain = drain;
        rig.apply();
    }
    is_reset(&mut client);
    rig.wait(Cause::Drained, 1);
}

#[rstest]
fn silence_ends_a_connection_where_its_service_says_so(#[values(Home::Here, Home::There)] home: Home) {
    let rig = Rig::at(
        home,
        1,
        ProxyRules {
            idle: Some(Duration::from_secs(2)),
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let began = Instant::now();
    // Who speaks goes on.
    while began.elapsed() < Duration::from_secs(5) {
        client.write_all(b"x").unwrap();
        assert_eq!(read(&mut near, 1), b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    is_reset(&mut client);
    rig.wait(Cause::Idle, 1);
}

#[test]
fn new_connections_go_where_there_are_fewer() {
    let rules = ProxyRules {
        algorithm: Algorithm::LeastConnections,
        ..ProxyRules::default()
    };
    let rig = Rig::new(2, rules);
    let tasks = [rig.listen(0), rig.listen(1)];
    let mut open: [Vec<_>; 2] = Default::default();
    for task in &tasks {
        task.set_nonblocking(true).unwrap();
    }
    for number in 0..40 {
        let client = rig.client();
        let taken = loop {
            if let Some(taken) = (0..2).find(|&task| {
                tasks[task].accept().is_ok_and(|(near, _)| {
                    open[task].push((near, client.try_clone().unwrap()));
                    true
                })
            }) {
                break taken;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let counts = [open[0].len(), open[1].len()];
        assert!(
            counts[0].abs_diff(counts[1]) <= 1,
            "{number} to {taken}: {counts:?}"
        );
    }
    // Those of one end: the next ones go there until both have as many.
    open[0].clear();
    rig.wait(Cause::Done, 20);
    for _ in 0..20 {
        let client = rig.client();
        let near = loop {
            assert!(tasks[1].accept().is_err(), "it has more");
            if let Ok((near, _)) = tasks[0].accept() {
                break near;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        open[0].push((near, client));
    }
}
