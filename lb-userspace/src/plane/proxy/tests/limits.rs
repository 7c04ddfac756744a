//! As many clients as may be, and one more.

use std::io::Write;
use std::sync::Arc;

use super::rig::{Rig, is_reset, read};
use crate::model::ProxyRules;

#[test]
fn clients_beyond_the_bound_wait_until_others_have_gone() {
    let rig = Rig::with(1, ProxyRules::default(), "max_connections = 3\n");
    let task = rig.listen(0);
    let mut served: Vec<_> = (0..3).map(|_| rig.pair(&task)).collect();
    let mut waiting = rig.client();
    waiting.write_all(b"here").unwrap();
    task.set_nonblocking(true).unwrap();
    rig.until(|proxy| proxy.pauses > 0);
    assert_eq!(task.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // Those that are served do not notice.
    for (client, near) in &mut served {
        client.write_all(b"x").unwrap();
        assert_eq!(read(near, 1), b"x");
    }
    served.pop();
    task.set_nonblocking(false).unwrap();
    let (mut near, _) = task.accept().unwrap();
    assert_eq!(read(&mut near, 4), b"here");
}

/// It has been accepted, and nobody knows of it yet.
#[test]
fn who_waits_for_room_where_nobody_is_served_any_more_is_reset() {
    let mut rig = Rig::with(1, ProxyRules::default(), "max_connections = 1\n");
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let mut waiting = rig.client();
    rig.until(|proxy| proxy.pauses > 0);
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.frontends.clear();
    for pool in &mut rig.snapshot.pools {
        Arc::make_mut(pool).frontends.clear();
    }
    rig.snapshot.generation += 1;
    rig.apply();
    is_reset(&mut waiting);
    client.write_all(b"still").unwrap();
    assert_eq!(read(&mut near, 5), b"still");
}
