//! Headers and frames.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::check::{frame, header, relay_header};
use crate::{read_corpus, seeds};

#[test]
fn the_headers_of_the_corpus_are_read_well() {
    read_corpus("header", header::accepted, 1);
}

#[test]
fn the_relay_headers_of_the_corpus_are_read_well() {
    read_corpus("relay_header", relay_header::accepted, 1);
}

#[test]
fn the_frames_of_the_corpus_are_read_well() {
    read_corpus("frame", frame::accepted, 1);
}

fn all(bytes: &[u8]) {
    header::accepted(bytes);
    relay_header::accepted(bytes);
    frame::accepted(bytes);
}

fn headers() -> Vec<Vec<u8>> {
    [seeds("header"), seeds("relay_header"), seeds("frame")].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_like_a_header_is_read_well(
        mut bytes in select(headers()),
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        tail in vec(any::<u8>(), 0..40),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        all(&bytes);
    }

    #[test]
    fn two_halves_of_headers_are_read_well(
        first in select(headers()),
        second in select(headers()),
        at in any::<Index>(),
        from in any::<Index>(),
    ) {
        all(&[&first[..at.index(first.len())], &second[from.index(second.len())..]].concat());
    }

    #[test]
    fn noise_is_read_well(bytes in vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }
}
