//! Fragments: the first one knows the ports, the others follow it.

use lb_common::Verdict;

use crate::cluster::{self, BOTH, Net, port};
use crate::frame::{L3, fragment, open};
use crate::judge::put_in;
use crate::rig::Rig;

#[test]
fn later_fragments_follow_the_first_and_without_it_are_nobodys() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for (port, expected) in [(port::HERE, Verdict::Delivered), (port::THERE, Verdict::Relayed)] {
            let later = fragment(net, port, port as u8, 8, false);
            assert_eq!(put_in(&mut rig, &later), Verdict::NotOurs);
            let first = fragment(net, port, port as u8, 0, true);
            assert_eq!(put_in(&mut rig, &first), expected);
            assert_eq!(put_in(&mut rig, &later), expected);
            assert_eq!(
                put_in(&mut rig, &fragment(net, port, 77, 8, true)),
                Verdict::NotOurs
            );
            let sent = rig.uplink(&later).sent(expected);
            if port == port::THERE {
                assert_eq!(open(&sent).inner[L3..], later[L3..]);
                continue;
            }
            let (addresses, payload) = if net == Net::Four {
                (L3 + 12, L3 + 20)
            } else {
                (L3 + 8, L3 + 40)
            };
            assert_eq!(
                sent[payload..],
                later[payload..],
                "no port is written where there is none"
            );
            let task = match net.task().ip() {
                std::net::IpAddr::V4(task) => task.octets().to_vec(),
                std::net::IpAddr::V6(task) => task.octets().to_vec(),
            };
            assert_eq!(sent[addresses + task.len()..addresses + 2 * task.len()], task);
            if net == Net::Four {
                assert_eq!(
                    lb_common::checksum::fold(lb_common::checksum::sum(&sent[L3..payload])),
                    0xffff
                );
            }
        }
    }
}
