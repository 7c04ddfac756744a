//! As many clients as may be, and one more.

use std::io::Write;

use super::rig::{Rig, read};
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
