//! The largest segment that fits the tunnel.

use lb_common::Verdict;

use crate::cluster::{self, BOTH, port};
use crate::frame::{Packet, SYN, read};
use crate::rig::Rig;

#[test]
fn the_mss_is_lowered_only_where_it_is_too_high() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let high = [0x05, 0xb4];
        let clamped = net.mss().to_be_bytes();
        for (source, options, at, expected) in [
            (1, vec![2, 4, 0x02, 0x18], 2, [0x02, 0x18]),
            (2, vec![2, 4, high[0], high[1]], 2, clamped),
            (3, vec![1, 2, 4, high[0], high[1], 1, 1, 0], 3, clamped),
            (4, vec![1, 1, 1, 2, 4, high[0], high[1], 1], 5, clamped),
            (5, vec![4, 2, 1, 1, 2, 4, 0xff, 0xff], 6, clamped),
        ] {
            let client = (net.client().ip(), source).into();
            let syn = Packet {
                options: options.clone(),
                ..Packet::tcp(client, net.front(port::HERE), SYN)
            };
            let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
            let mut wanted = options;
            wanted[at..at + 2].copy_from_slice(&expected);
            assert_eq!(sent.options, wanted);
        }
        let bare = Packet::tcp(net.client(), net.front(port::HERE), SYN);
        let sent = read(&rig.uplink(&bare.frame()).sent(Verdict::Delivered));
        assert!(sent.options.is_empty());
    }
}

#[test]
fn options_that_cannot_be_do_not_confuse_the_clamp() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for options in [
            vec![2, 0, 0x05, 0xb4],
            vec![2, 1, 0x05, 0xb4],
            vec![8, 255, 2, 4, 0x05, 0xb4, 0, 0],
            vec![2, 4, 0x05, 0xb4, 3, 0, 0, 0],
            vec![0, 0, 0, 0, 2, 4, 0x05, 0xb4],
            vec![1; 40],
            vec![1, 1, 1, 2],
        ] {
            let syn = Packet {
                options,
                ..Packet::tcp(net.client(), net.front(port::HERE), SYN)
            };
            read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
        }
    }
}
