//! `cargo +nightly fuzz run request` in `dns/`: the path of a request, with what `tests/fuzz/` checks of every answer.

#![no_main]

#[path = "../../tests/fuzz/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::request(bytes));
