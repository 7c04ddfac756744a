//! Portico's automation: `cargo xtask setup | build | test | lab | bench`.
fn main() {}
