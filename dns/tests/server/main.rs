//! The running server, asked by foreign clients: one module per standard, one test per clause.
//!
//! A test whose tools are missing fails in CI and says SKIPPED elsewhere; `cargo xtask setup` installs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod addresses;
mod fixture;
mod getaddrinfo;
mod handler;
mod limits;
mod load;
mod names;
mod resolved;
mod rfc1035;
mod rfc2308;
mod rfc5452;
mod rfc6761;
mod rfc6891;
mod rfc7766;
mod rfc8020;
mod rfc8482;
mod rfc8767;
mod tools;
mod upstream;
mod upstreams;
