//! What the side-by-side runs share: samples, the machine they were taken on, charts.

pub mod chart;
pub mod input;
pub mod machine;
pub mod sample;
