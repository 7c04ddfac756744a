//! Portico's agent: sources give the desired state, the model makes snapshots of it, planes carry them out.
//!
//! Data flows one way: `source` → `model` → [`model::Snapshot`] → `plane`, `names`, `api`, `telemetry`. There is one writer of
//! the snapshot; nothing to the right of it imports anything to the left but `model`.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod door;
pub mod handover;
pub mod health;
mod hidden;
mod interfaces;
mod jobs;
pub mod model;
pub mod names;
pub mod outside;
mod pause;
pub mod peer;
pub mod plane;
mod present;
mod rights;
pub mod source;
pub mod telemetry;
