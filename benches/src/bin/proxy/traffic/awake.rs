//! A processor that sleeps takes its time to wake, on virtual machines most of all: that would be in every waiting time. So
//! something runs whenever nobody else wants to.

use std::time::{Duration, Instant};

use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct Awake {
    #[arg(long)]
    seconds: u64,
}

impl Awake {
    pub fn run(&self) {
        let end = Instant::now() + Duration::from_secs(self.seconds);
        while Instant::now() < end {
            for _ in 0..10_000 {
                std::hint::spin_loop();
            }
        }
    }
}
