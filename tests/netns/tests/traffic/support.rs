//! What several tests have in common.

pub mod caller;
pub mod near_and_far;
pub mod objects;
pub mod question;
pub mod tables;
