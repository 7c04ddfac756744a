//! What the agent tells about itself without being asked: its log, and figures for Prometheus.

pub mod http;
pub mod log;
mod metrics;
mod names;
mod proxy;
mod stream;
