//! Connections that were used once and then say nothing, for as long as whoever started this wants.

use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use socket2::SockRef;

use super::connect;

/// What is said when all connections are there.
pub const READY: &str = "ready";

#[derive(Args, Clone, Debug)]
pub struct Idle {
    #[arg(long)]
    target: SocketAddrV4,
    #[arg(long)]
    count: usize,
}

impl Idle {
    /// Holds the connections until its input is closed.
    pub fn run(&self) -> Result<()> {
        let mut held = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let stream = connect(self.target)?;
            // Ended by a reset: nothing of it stays in the kernel, where the next turn is measured.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            held.push(stream);
        }
        println!("{READY}");
        std::io::stdout().flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}
