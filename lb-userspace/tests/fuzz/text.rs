//! Files that people write.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::check::{configuration, services};
use crate::{read_corpus, seeds};

#[test]
fn the_configurations_of_the_corpus_are_read_well() {
    read_corpus("configuration", configuration::accepted, 17);
}

#[test]
fn the_services_files_of_the_corpus_are_read_well() {
    read_corpus("services", services::accepted, 17);
}

/// What a slip, another tool or malice does to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Insert(Index, &'static str),
    Drop(Index),
    Double(Index),
    Swap(Index, Index),
}

static INSERTED: [&str; 32] = [
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\n",
    "\t",
    "\r\n",
    "  ",
    "#",
    "=",
    ": ",
    "- ",
    "~",
    "null",
    "true",
    "-1",
    "0",
    "65536",
    "4294967296",
    "99999999999999999999",
    "1e9",
    "é",
    "\u{0}",
    "\u{feff}",
    "&a ",
    "*a ",
    "!!binary ",
    "<<: ",
    "---\n",
];

fn any_change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (index(), select(&INSERTED[..])).prop_map(|(at, text)| Change::Insert(at, text)),
        index().prop_map(Change::Drop),
        index().prop_map(Change::Double),
        (index(), index()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        if lines.is_empty() {
            break;
        }
        match change {
            Change::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                continue;
            }
            Change::Insert(at, text) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, text.bytes());
                continue;
            }
            Change::Drop(at) => {
                lines.remove(at.index(lines.len()));
            }
            Change::Double(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
            }
            Change::Swap(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
            }
        }
        bytes = lines.concat();
    }
    bytes
}

/// A file that is like those of a target.
fn alike(target: &str) -> impl Strategy<Value = String> {
    let changes = vec(any_change(), 0..6);
    (select(seeds(target)), changes).prop_map(|(bytes, changes)| text(&changed(bytes, changes)))
}

/// The beginning of one file and the end of another.
fn halves(target: &str) -> impl Strategy<Value = String> {
    let seeds = seeds(target);
    let half = (select(seeds.clone()), any::<Index>());
    (half, select(seeds), any::<Index>()).prop_map(|((first, at), second, from)| {
        text(
            &[
                &first[..at.index(first.len())],
                &second[from.index(second.len())..],
            ]
            .concat(),
        )
    })
}

/// What is no text is refused before anybody reads it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_like_a_configuration_is_read_well(text in alike("configuration")) {
        configuration::accepted(text.as_bytes());
    }

    #[test]
    fn two_halves_of_configurations_are_read_well(text in halves("configuration")) {
        configuration::accepted(text.as_bytes());
    }

    #[test]
    fn what_is_like_a_services_file_is_read_well(text in alike("services")) {
        services::accepted(text.as_bytes());
    }

    #[test]
    fn two_halves_of_services_files_are_read_well(text in halves("services")) {
        services::accepted(text.as_bytes());
    }

    #[test]
    fn noise_is_refused_well(text in "\\PC{0,200}") {
        configuration::accepted(text.as_bytes());
        services::accepted(text.as_bytes());
    }
}
