//! `cargo +nightly fuzz run services` in `lb-userspace/`: the services file, to the snapshot that is made of it.

#![no_main]

#[path = "../../tests/fuzz/check/services.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::accepted(bytes);
});
