//! The sockets go to another plane, as from one agent to the next.

use std::io::Write;

use super::super::*;
use super::rig::{Rig, read};
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
        super::rig::is_reset(&mut client);
    }
}
