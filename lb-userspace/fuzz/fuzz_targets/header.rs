//! `cargo +nightly fuzz run header` in `lb-userspace/`: the PROXY protocol's headers, as strangers and upstreams send them.

#![no_main]

#[path = "../../tests/fuzz/check/header.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::accepted(bytes);
});
