//! The fuzz targets' corpora, and random changes of them, through the readers of what others write.
//!
//! This is what runs everywhere. To look further, `cargo +nightly fuzz run TARGET` in `lb-userspace/` lets libFuzzer loose
//! on the same checks, starting from the same corpora. In them, what is to be refused has a name that begins with `bad-`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod binary;
mod text;

mod check {
    pub mod configuration;
    pub mod frame;
    pub mod header;
    pub mod relay_header;
    pub mod services;
}

use std::fs;
use std::path::Path;

/// All of a target, with their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Those of a target that are worth changing.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let corpus = corpus(target).into_iter().map(|(_, bytes)| bytes);
    corpus.filter(|bytes| (1..3000).contains(&bytes.len())).collect()
}

/// Reads each file, and beginnings of it `step` bytes apart.
fn read_corpus(target: &str, accepted: fn(&[u8]) -> bool, step: usize) {
    let corpus = corpus(target);
    assert!(corpus.len() > 20);
    let good = |name: &str| !name.starts_with("bad-");
    let wrong: Vec<_> = corpus
        .iter()
        .filter(|(name, bytes)| accepted(bytes) != good(name))
        .map(|(name, _)| name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?} of {target}");
    for (_, bytes) in corpus {
        for length in (0..bytes.len()).step_by(step) {
            accepted(&bytes[..length]);
        }
    }
}
