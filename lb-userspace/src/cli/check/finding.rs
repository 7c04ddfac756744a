//! What one test found.

use std::fmt::Display;

use serde::Serialize;

use crate::cli::words;

/// How a test ended. As a number: the exit code of `portico check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok = 0,
    Warning = 1,
    Failure = 2,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tested.
    pub name: &'static str,
    pub state: State,
    pub words: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    pub fn ok(name: &'static str, words: impl Display) -> Self {
        Self {
            name,
            state: State::Ok,
            words: words.to_string(),
            fix: None,
        }
    }

    pub fn warning(name: &'static str, words: impl Display, fix: impl Display) -> Self {
        Self {
            state: State::Warning,
            fix: Some(fix.to_string()),
            ..Self::ok(name, words)
        }
    }

    pub fn failure(name: &'static str, words: impl Display, fix: impl Display) -> Self {
        Self {
            state: State::Failure,
            fix: Some(fix.to_string()),
            ..Self::ok(name, words)
        }
    }
}

/// One line each, a fix under each that did not pass, the sum at the end.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failure => "FAILURE",
        };
        text += &format!("{state:<8} {:<13} {}\n", finding.name, finding.words);
        if let Some(fix) = &finding.fix {
            text += &format!("{:<22} fix: {fix}\n", "");
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count() as u64;
    text += &format!(
        "{} passed, {}, {}\n",
        count(State::Ok),
        words::count(count(State::Warning), "warning"),
        words::count(count(State::Failure), "failure"),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_one_line_and_its_fix_below() {
        let findings = [
            Finding::ok("kernel", "6.18.0"),
            Finding::warning("bpffs", "not mounted", "mount -t bpf bpf /sys/fs/bpf"),
        ];
        assert_eq!(
            text(&findings),
            "ok       kernel        6.18.0\n\
             warning  bpffs         not mounted\n                       \
             fix: mount -t bpf bpf /sys/fs/bpf\n\
             1 passed, 1 warning, 0 failures\n"
        );
    }
}
