//! The lab's front end; `cargo xtask lab` runs it.

mod command;
mod guided;
mod place;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::Lab::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
