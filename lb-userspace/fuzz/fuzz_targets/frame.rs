//! `cargo +nightly fuzz run frame` in `lb-userspace/`: what agents say to each other on a connection that carries datagrams.

#![no_main]

#[path = "../../tests/fuzz/check/frame.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::accepted(bytes);
});
