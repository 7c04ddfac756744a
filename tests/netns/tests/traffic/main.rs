//! Real traffic through the virtual cluster: `cargo xtask test netns`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod assigned;
mod change;
mod check;
mod clients;
mod connect;
mod eastwest;
mod floods;
mod health;
mod host;
mod hostnet;
mod identity;
mod idle;
mod intercept;
mod lab;
mod localhost;
mod many;
mod mesh;
mod names;
mod paths;
mod placeholder;
mod planes;
mod polite;
mod reset;
mod restarts;
mod rolling;
mod source;
mod start;
mod support;
mod torture;
mod transparent;
mod tunnel;
mod udp;
