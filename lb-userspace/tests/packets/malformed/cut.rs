//! Packets cut short.

use lb_common::Verdict;

use super::kinds;
use crate::cluster::{self, BOTH, port};
use crate::frame::{ACK, Packet, icmp_error};
use crate::judge::put_in;
use crate::rig::Rig;

#[test]
fn a_packet_cut_at_any_length_is_dropped_and_counted() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for packet in kinds(net) {
            let whole = packet.frame();
            // The transport header, where frontends are told from other addresses.
            let seen = whole.len() - packet.payload.len() - packet.options.len();
            for length in 14..whole.len() {
                let verdict = put_in(&mut rig, &whole[..length]);
                let expected = if length < seen && (packet.protocol == 6 || length < seen - 4) {
                    Verdict::NotOurs
                } else {
                    Verdict::Truncated
                };
                assert_eq!(
                    verdict,
                    expected,
                    "{length} of {} bytes of {packet:?}",
                    whole.len()
                );
            }
        }
    }
}

#[test]
fn an_icmp_error_cut_at_any_length_is_never_sent_on() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for port in [port::HERE, port::THERE] {
            let reply = Packet::tcp(net.front(port), net.client(), ACK).frame();
            let whole = icmp_error(net.router(), &reply);
            for length in 14..whole.len() {
                let verdict = put_in(&mut rig, &whole[..length]);
                assert!(
                    matches!(verdict, Verdict::NotOurs | Verdict::Truncated),
                    "{verdict:?}"
                );
            }
        }
    }
}
