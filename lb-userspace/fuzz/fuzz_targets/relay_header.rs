//! `cargo +nightly fuzz run relay_header` in `lb-userspace/`: what agents say to each other first on a relayed connection.

#![no_main]

#[path = "../../tests/fuzz/check/relay_header.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::accepted(bytes);
});
