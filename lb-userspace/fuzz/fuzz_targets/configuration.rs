//! `cargo +nightly fuzz run configuration` in `lb-userspace/`: `portico.toml`.

#![no_main]

#[path = "../../tests/fuzz/check/configuration.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::accepted(bytes);
});
