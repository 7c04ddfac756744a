use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [3; 32];

fn any_mark() -> impl Strategy<Value = DrainMark> {
    let object = prop_oneof![
        "[a-zé]{1,20}".prop_map(|name| DrainObject::Node(name.into())),
        ("[a-z]{1,20}", "[a-z0-9./]{1,20}").prop_map(|(service, task)| DrainObject::Backend {
            service: service.into(),
            task: task.into()
        }),
    ];
    (object, any::<bool>(), any::<u64>()).prop_map(|(object, drained, stamp)| DrainMark {
        object,
        drained,
        stamp,
    })
}

prop_compose! {
    fn any_heartbeat()(
        (boot, sequence, echo, settled, by_proxy) in any::<(u64, u64, u64, bool, bool)>(),
        node in "[a-z0-9.-]{1,60}",
        ends in any::<(u64, u64)>(),
        tags in proptest::collection::btree_set(any::<u64>(), 0..MAX_TAGS),
        drains in proptest::collection::vec(any_mark(), 0..8),
    ) -> Heartbeat {
        let range = ends.0.min(ends.1)..=ends.0.max(ends.1);
        let unhealthy = tags.into_iter().filter(|tag| range.contains(tag)).collect();
        Heartbeat { boot, sequence, echo, settled, by_proxy, node, range, unhealthy, drains }
    }
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(heartbeat in any_heartbeat()) {
        let datagram = seal(&KEY, &heartbeat);
        prop_assert!(datagram.len() <= MAX_DATAGRAM);
        prop_assert_eq!(open(&KEY, &datagram), Ok(heartbeat));
    }

    #[test]
    fn a_heartbeat_cut_off_anywhere_is_refused(heartbeat in any_heartbeat(), cut in any::<prop::sample::Index>()) {
        let datagram = seal(&KEY, &heartbeat);
        prop_assert!(open(&KEY, &datagram[..cut.index(datagram.len())]).is_err());
        let body = encode(&heartbeat);
        prop_assert!(decode(&body[..cut.index(body.len())]).is_err());
    }

    #[test]
    fn a_heartbeat_with_a_changed_bit_is_refused(
        heartbeat in any_heartbeat(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut datagram = seal(&KEY, &heartbeat);
        let at = at.index(datagram.len());
        datagram[at] ^= 1u8 << bit;
        prop_assert_eq!(open(&KEY, &datagram), Err(Strange::Forged));
    }

    /// Even someone with the key cannot make the decoder fail.
    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), ours in any::<bool>()) {
        if ours {
            bytes.splice(..bytes.len().min(5), *b"PRTC\x01");
        }
        if let Ok(heartbeat) = decode(&bytes) {
            prop_assert_eq!(encode(&heartbeat), bytes);
        }
    }

    #[test]
    fn a_mark_takes_the_room_it_says(mark in any_mark()) {
        let with = |drains| encode(&Heartbeat { drains, ..plain() }).len();
        prop_assert_eq!(with(vec![mark.clone()]) - with(vec![]), mark_size(&mark));
    }
}

fn plain() -> Heartbeat {
    Heartbeat {
        boot: 1,
        sequence: 1,
        echo: 0,
        settled: true,
        by_proxy: true,
        node: "node1".into(),
        range: 0..=u64::MAX,
        unhealthy: vec![],
        drains: vec![],
    }
}

#[test]
fn another_clusters_heartbeat_is_refused() {
    assert_eq!(open(&[4; 32], &seal(&KEY, &plain())), Err(Strange::Forged));
}

#[test]
fn a_longer_datagram_than_any_heartbeat_is_refused_unread() {
    assert_eq!(
        open(&KEY, &[0; MAX_DATAGRAM + 1]),
        Err(Strange::Length(MAX_DATAGRAM + 1))
    );
}

#[test]
fn the_fullest_heartbeat_fits_a_datagram() {
    let name = |letter: &str| letter.repeat(255);
    let object = DrainObject::Backend {
        service: name("s").into(),
        task: name("t").into(),
    };
    let mark = DrainMark {
        object,
        drained: true,
        stamp: 1,
    };
    assert!(mark_size(&mark) <= DRAIN_ROOM);
    let unhealthy: BTreeSet<u64> = (1..=MAX_TAGS as u64).collect();
    let unhealthy = unhealthy.into_iter().collect();
    let heartbeat = Heartbeat {
        node: name("n"),
        unhealthy,
        drains: vec![mark],
        ..plain()
    };
    let datagram = seal(&KEY, &heartbeat);
    assert!(datagram.len() <= MAX_DATAGRAM, "{}", datagram.len());
    assert_eq!(open(&KEY, &datagram), Ok(heartbeat));
}

#[test]
fn tags_out_of_order_or_range_are_refused() {
    for (range, unhealthy) in [
        (0..=9, vec![2, 1]),
        (0..=9, vec![1, 1]),
        (0..=9, vec![10]),
        (RangeInclusive::new(9, 0), vec![]),
    ] {
        let body = encode(&Heartbeat {
            range,
            unhealthy,
            ..plain()
        });
        assert_eq!(decode(&body), Err(Strange::Form));
    }
}
