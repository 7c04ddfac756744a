//! Claims, each printed with what came of it.

use std::process::ExitCode;

#[derive(Debug, Default)]
pub struct Claims {
    held: usize,
    broken: Vec<String>,
}

impl Claims {
    /// Prints a claim; where it does not hold, also why.
    pub fn hold(&mut self, claim: &str, held: bool, otherwise: String) {
        if held {
            self.held += 1;
            println!("  ok    {claim}");
        } else {
            println!("  FAIL  {claim}: {otherwise}");
            self.broken.push(claim.to_owned());
        }
    }

    /// Success only if all of them held.
    pub fn verdict(&self) -> ExitCode {
        if self.broken.is_empty() {
            println!("\nAll {} claims held.", self.held);
            return ExitCode::SUCCESS;
        }
        println!("\n{} claims did not hold:", self.broken.len());
        for claim in &self.broken {
            println!("  {claim}");
        }
        ExitCode::FAILURE
    }
}
