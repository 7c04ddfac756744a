//! The sockets go to another plane, as from one agent to the next.

use std::io::Write;
use std::net::TcpStream;

use super::super::*;
use super::rig::{PATIENCE, Rig, is_reset, read};
use crate::model::ProxyRules;

#[test]
fn nobody_waits_in_vain_whatever_number_of_workers_takes_over_and_old_connections_go_on() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let mut before = Vec::new();
    for workers in [3, 1, 2] {
        // In the backlog of each of the sockets, most likely.
        let mut waiting = Vec::new();
        before.push(rig.replace(workers, |rig| waiting.extend((0..40).map(|_| rig.client()))));
        let mut served = Vec::new();
        for _ in 0..waiting.len() {
            let (mut near, _) = task.accept().unwrap();
            near.write_all(b"!").unwrap();
            served.push(near);
        }
        for client in &mut waiting {
            assert_eq!(read(client, 1), b"!");
        }
        let report = rig.plane.report();
        assert_eq!((report.problems, report.proxy.unwrap().opened), (vec![], 40));
    }
    near.write_all(b"still").unwrap();
    assert_eq!(read(&mut client, 5), b"still");
    let left: Vec<u64> = before.iter().map(ProxyPlane::connections).collect();
    assert_eq!(left[0], 1, "{left:?}");
}

#[test]
fn connections_of_a_member_that_is_gone_or_has_drained_end_in_the_plane_that_has_them() {
    for is_gone in [true, false] {
        let mut rig = Rig::new(1, ProxyRules::default());
        let task = rig.listen(0);
        let (mut client, _near) = rig.pair(&task);
        let before = rig.replace(2, |_| {});
        let tags: Vec<u64> = before.counts().into_iter().map(|(tag, ..)| tag).collect();
        assert_eq!(tags.len(), 1);
        if is_gone {
            before.end(&tags, &[]);
        } else {
            before.end(&[], &tags);
        }
        is_reset(&mut client);
    }
}

/// As at the end of its time: nobody takes what there is for the whole.
#[test]
fn connections_that_are_left_when_the_plane_ends_are_reset_on_both_sides() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let before = rig.replace(2, |_| {});
    assert_eq!((before.connections(), before.clients()), (1, 1));
    drop(before);
    is_reset(&mut client);
    is_reset(&mut near);
    rig.pair(&task);
}

/// Where there has been no task for a while nobody listens: whoever keeps the sockets has to know them again.
#[test]
fn a_frontend_that_closes_and_opens_again_is_told_of_and_has_other_sockets() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let mut told = rig.plane.sockets();
    let first = rig.lent();
    assert_eq!(first.len(), 1);
    told.mark_unchanged();
    let served = rig.snapshot.clone();
    for service in rig.snapshot.services.values_mut() {
        Arc::make_mut(service).frontends.clear();
    }
    for (snapshot, are_some) in [(rig.snapshot.clone(), false), (served, true)] {
        rig.snapshot = snapshot;
        rig.snapshot.generation += 1;
        rig.apply();
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        let sockets = rig.lent();
        assert_eq!(sockets.keys().eq(first.keys()), are_some);
        assert!(
            sockets
                .values()
                .zip(first.values())
                .all(|(now, then)| now.is_disjoint(then))
        );
    }
}

/// A snapshot may be on its way to the workers when the sockets go to another plane.
#[test]
fn a_plane_that_has_retired_opens_nothing() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    rig.retire();
    rig.snapshot.generation += 1;
    let served = rig.snapshot.clone();
    rig.snapshot.services.clear();
    rig.apply();
    rig.snapshot = served;
    rig.apply();
    let front = rig.snapshot.services["web"].frontends[0];
    // What was opened for them is closed once they look.
    let began = Instant::now();
    while TcpStream::connect((front.address.unwrap(), front.port)).is_ok() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(task);
}
