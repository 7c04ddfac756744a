//! The fuzz target's corpus, and random changes of it, through the path of a request.
//!
//! This is what runs everywhere. To look further, `cargo +nightly fuzz run request` in `dns/` lets libFuzzer loose on the
//! same checks, starting from the same corpus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod check;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/request");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_answered_well() {
    let corpus = corpus();
    assert!(corpus.len() > 20);
    for request in corpus {
        check::request(&request);
        for length in 0..request.len() {
            check::request(&request[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_like_a_request_is_answered_well(
        mut request in select(corpus()),
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        tail in vec(any::<u8>(), 0..40),
    ) {
        for (at, byte) in changes {
            let at = at.index(request.len());
            request[at] = byte;
        }
        request.extend(tail);
        check::request(&request);
    }

    #[test]
    fn two_halves_of_requests_are_answered_well(
        first in select(corpus()),
        second in select(corpus()),
        at in any::<Index>(),
        from in any::<Index>(),
    ) {
        let request = [&first[..at.index(first.len())], &second[from.index(second.len())..]].concat();
        check::request(&request);
    }

    #[test]
    fn noise_is_answered_well(request in vec(any::<u8>(), 0..600)) {
        check::request(&request);
    }
}
