//! An error as an operator needs it: what failed, why, whether traffic still flows, what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plane;

/// Travels through the control socket as JSON and is printed as
/// ```text
/// error: WHAT: WHY
///   traffic: …
///   fix: …
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, on which object.
    pub what: String,
    /// The reason, the operating system's own where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it means for traffic.
    pub traffic: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// The usual word on traffic: a command that failed has changed nothing.
pub const UNTOUCHED: &str = "not touched by this";

impl Problem {
    /// A command failed and left everything as it was.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: None,
            traffic: UNTOUCHED.into(),
            fix: None,
        }
    }

    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    pub fn traffic(mut self, traffic: impl Into<String>) -> Self {
        self.traffic = traffic.into();
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// From a message that is laid out as a problem is printed.
    pub fn of(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let mut problem = Self::new("");
        for line in message.lines() {
            if let Some(traffic) = line.strip_prefix("  traffic: ") {
                problem.traffic = traffic.into();
            } else if let Some(fix) = line.strip_prefix("  fix: ") {
                problem.fix = Some(fix.into());
            } else {
                let separator = if problem.what.is_empty() { "" } else { "; " };
                problem.what.extend([separator, line.trim()]);
            }
        }
        problem
    }
}

impl From<&plane::Problem> for Problem {
    fn from(problem: &plane::Problem) -> Self {
        Self::new(&problem.error)
            .traffic(&problem.traffic)
            .fix(&problem.fix)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        write!(f, "\n  traffic: {}", self.traffic)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_laid_out_like_a_problem_is_taken_apart() {
        let problem = Problem::new("x: y").traffic("flows").fix("z");
        assert_eq!(Problem::of(&problem), problem);
        assert_eq!(Problem::of("plain"), Problem::new("plain"));
    }

    #[test]
    fn says_what_why_whether_traffic_flows_and_what_to_do() {
        let problem = Problem::new("cannot reach the agent at /run/portico/portico.sock")
            .because("No such file or directory (os error 2)")
            .traffic("what the kernel has loaded goes on by itself")
            .fix("start it: portico run");
        assert_eq!(
            problem.to_string(),
            "cannot reach the agent at /run/portico/portico.sock: No such file or directory (os error 2)\n  \
             traffic: what the kernel has loaded goes on by itself\n  \
             fix: start it: portico run"
        );
    }
}
