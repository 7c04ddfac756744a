//! Portico's agent: sources give the desired state, the model makes snapshots of it, planes carry them out.
//!
//! Data flows one way: `source` → `model` → [`model::Snapshot`] → `plane`, `api`, `telemetry`. There is one writer of
//! the snapshot; nothing to the right of it imports anything to the left but `model`.

pub mod api;
pub mod config;
pub mod model;
pub mod plane;
pub mod source;
