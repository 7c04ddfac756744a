//! `cargo xtask dist`: what is given to others.

use anyhow::Result;
use clap::Subcommand;

use crate::fixed::{self, Profile};
use crate::setup::{Talk, setup};

/// What is made.
#[derive(Subcommand)]
pub enum Thing {
    /// The agent as one file that needs no other; prints where it is.
    Program {
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
    },
}

/// Sets up, builds, and says where the result is.
pub fn dist(thing: &Thing) -> Result<()> {
    setup(Talk::OnlyOfChanges)?;
    match thing {
        Thing::Program { profile } => {
            println!("{}", fixed::build("lb-userspace", "portico", *profile)?.display());
        }
    }
    Ok(())
}
