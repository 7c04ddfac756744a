//! What is asked, and how: dnsperf, which shares nothing with the servers but the wire format.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use benches::sample::Sample;
use clap::ValueEnum;
use netns::{Namespace, tool};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::Serialize;

use crate::contender::{Contender, DOMAIN, FAR, FOREIGN, NAMES, PORTS, processor};

/// Sockets, or connections, of dnsperf, and questions that wait at the same time on all of them together.
const CLIENTS: &str = "10";
const OUTSTANDING: &str = "200";
/// How often a turn is tried.
const TRIES: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// The address of one of the server's own names.
    Local,
    /// SRV of one of the server's own names.
    Srv,
    /// The address of a name that an upstream has been asked for before.
    Cached,
}

impl Question {
    pub const ALL: [Self; 3] = [Self::Local, Self::Srv, Self::Cached];

    pub fn title(self) -> &'static str {
        match self {
            Self::Local => "local A",
            Self::Srv => "local SRV",
            Self::Cached => "cached A",
        }
    }

    /// Every name once, in an order that no memory foresees.
    fn lines(self) -> String {
        let count = match self {
            Self::Local => NAMES,
            Self::Srv => PORTS,
            Self::Cached => FOREIGN,
        };
        let mut text = String::new();
        // The factor has no divisor in common with any count, so each number comes once.
        for number in (0..count).map(|number| (u64::from(number) * 7_919_337 % u64::from(count)) as u32) {
            let _ = match self {
                Self::Local => writeln!(text, "n{number}.{DOMAIN} A"),
                Self::Srv => writeln!(text, "_http._tcp.n{number}.{DOMAIN} SRV"),
                Self::Cached => writeln!(text, "f{number}.{FAR} A"),
            };
        }
        text
    }

    /// Writes the questions to a file that dnsperf reads.
    pub fn write(self, directory: &Path) -> Result<PathBuf> {
        let file = directory.join(format!("{self:?}.questions").to_lowercase());
        fs::write(&file, self.lines())?;
        Ok(file)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    pub fn title(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// One turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Answers per second.
    pub rate: f64,
    pub answers: f64,
    /// Questions without an answer.
    pub lost: f64,
    /// Processor time of dnsperf, in seconds.
    pub used: f64,
}

/// dnsperf, asking one server.
#[derive(Debug)]
pub struct Asker<'a> {
    pub place: &'a Namespace,
    pub contender: Contender,
    pub transport: Transport,
    pub questions: &'a Path,
}

impl Asker<'_> {
    /// Every question once: what has to be asked elsewhere is remembered from then on.
    pub fn warm(&self) -> Result<()> {
        // The time is bounded for a server that says nothing.
        let turn = self.run(&["-n", "1", "-l", "10", "-q", "50"])?.0;
        ensure!(
            turn.lost == 0.0,
            "{}: {} questions without an answer",
            self.contender.title(),
            turn.lost
        );
        Ok(())
    }

    /// As fast as answers come.
    pub fn flat_out(&self, seconds: u64) -> Result<Turn> {
        Ok(self.run(&["-l", &seconds.to_string(), "-q", OUTSTANDING])?.0)
    }

    /// At a steady rate: how long each answer took, in microseconds.
    pub fn steadily(&self, seconds: u64, rate: u32) -> Result<Sample> {
        let (seconds, rate) = (seconds.to_string(), rate.to_string());
        let text = self
            .run(&["-l", &seconds, "-q", OUTSTANDING, "-Q", &rate, "-v"])?
            .1;
        let times = text
            .lines()
            .filter_map(|line| line.strip_prefix("> ")?.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(times.map(|time| time * 1e6).collect())
    }

    /// Now and then dnsperf gives up ("Bad file descriptor") when a server ends its connections, as dnsmasq does: then it is
    /// asked for once more.
    fn run(&self, options: &[&str]) -> Result<(Turn, String)> {
        let mut turn = self.run_once(options);
        for _ in 1..TRIES {
            if turn.is_ok() {
                break;
            }
            turn = self.run_once(options);
        }
        turn
    }

    fn run_once(&self, options: &[&str]) -> Result<(Turn, String)> {
        let mut command: Command = self.place.command("taskset")?;
        let address = self.contender.address();
        command
            .args(["--cpu-list", &processor(0), "dnsperf", "-O", "suppress=timeout"])
            .args(["-s", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args([
                "-m",
                &self.transport.title().to_lowercase(),
                "-c",
                CLIENTS,
                "-T",
                "1",
                "-t",
                "1",
            ])
            .arg("-d")
            .arg(self.questions)
            .args(options);
        let before = used()?;
        let text = tool::run(&mut command)?;
        let turn = turn(&text, used()? - before, self.contender == Contender::Echo)?;
        Ok((turn, text))
    }
}

/// Reads dnsperf's summary; every answer must be a good one.
fn turn(text: &str, used: f64, echo: bool) -> Result<Turn> {
    let figure = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let word = line.and_then(|rest| {
            rest.split_ascii_whitespace()
                .next()?
                .trim_end_matches(',')
                .parse()
                .ok()
        });
        word.with_context(|| format!("dnsperf did not say \"{name}\":\n{text}"))
    };
    let good = text.lines().any(|line| {
        line.trim().starts_with("Response codes:") && line.contains("NOERROR") && line.contains("(100.00%)")
    });
    let sizes = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Average packet size:"))
        .unwrap_or_default();
    let sizes: Vec<u32> = sizes
        .split(|byte: char| !byte.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let carries = matches!(sizes[..], [request, response] if echo || response > request);
    ensure!(good && carries, "not all answers were good ones:\n{text}");
    Ok(Turn {
        rate: figure("Queries per second:")?,
        answers: figure("Queries completed:")?,
        lost: figure("Queries lost:")?,
        used,
    })
}

/// Processor time of this process's children that have ended, in seconds.
fn used() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(time.num_microseconds() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_asked_for_once() {
        for question in Question::ALL {
            let text = question.lines();
            let names: BTreeSet<&str> = text.lines().collect();
            assert_eq!(names.len(), text.lines().count());
        }
    }

    #[test]
    fn the_summary_is_read_and_bad_answers_are_no_figure() {
        let text = "  Queries completed:    41718 (99.78%)\n  Queries lost:         92 (0.22%)\n\n  \
                    Response codes:       NOERROR 41718 (100.00%)\n  Average packet size:  request 37, response 53\n  \
                    Queries per second:   40032.280692\n";
        let good = turn(text, 0.5, false).expect("a turn");
        assert_eq!(
            (good.rate, good.answers, good.lost),
            (40032.280692, 41718.0, 92.0)
        );
        assert!(turn(&text.replace("NOERROR", "SERVFAIL"), 0.5, false).is_err());
        assert!(turn(&text.replace("response 53", "response 37"), 0.5, false).is_err());
    }
}
