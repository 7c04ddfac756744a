//! Requests by name at a steady rate: each asks for the name anew, and has a connection of its own. Runs wherever the task
//! program does; what it saw is told as JSON.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Pace;
use super::http::{Connection, PATIENCE};
use super::report::{Failure, Kind, Report};
use super::resolver::Resolver;

/// Whom to ask: `http://NAME[:PORT]/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| format!("{text} does not begin with http://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|error| format!("{port}: {error}"))?)
            }
            _ => (authority, 80),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: format!("/{path}"),
        })
    }
}

impl Url {
    /// The first address that the name has now.
    pub fn resolve(&self) -> Result<SocketAddr> {
        let addresses = Resolver::here()?.resolve(&self.host)?;
        let first = addresses
            .first()
            .ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        Ok(SocketAddr::new(*first, self.port))
    }
}

/// Asks until told to stop, from several threads.
pub fn ask(url: &Url, rate: f64, workers: usize, stop: &AtomicBool, done: &AtomicU64) -> Report {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|number| {
                let offset = Duration::from_secs_f64(number as f64 / rate);
                let mut pace = Pace::new(rate / workers as f64, offset);
                scope.spawn(move || {
                    let mut report = Report::default();
                    while !stop.load(Ordering::Relaxed) {
                        pace.wait();
                        one(url, start, &mut report);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    report
                })
            })
            .collect();
        let mut report = Report::default();
        for handle in handles {
            report.merge(handle.join().unwrap_or_default());
        }
        report.failures.sort_by_key(|failure| failure.at);
        report
    })
}

fn one(url: &Url, start: Instant, report: &mut Report) {
    let began = Instant::now();
    let nobody = SocketAddr::from(([0, 0, 0, 0], url.port));
    let mut target = nobody;
    let mut local = None;
    let mut request = || {
        target = url.resolve()?;
        let mut connection = Connection::open_with(target, None, PATIENCE)?;
        local = connection.local();
        connection.ask()
    };
    match request() {
        Ok(answer) => {
            report.connections += 1;
            report.slowest = report.slowest.max(began.elapsed());
            report.clients.insert(answer.client);
            *report.answers.entry((target, answer.task)).or_default() += 1;
        }
        Err(error) => report.failures.push(Failure {
            at: start.elapsed(),
            target,
            kind: Kind::of(&error),
            task: None,
            local,
            words: error.to_string(),
        }),
    }
}

/// A report as one line of text.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    answers: Vec<(SocketAddr, String, u64)>,
    clients: Vec<std::net::IpAddr>,
    connections: u64,
    failures: Vec<Failure>,
    slowest: Duration,
}

/// Writes a report down.
pub fn tell(report: &Report) -> serde_json::Result<String> {
    let answers = report.answers.iter();
    serde_json::to_string(&Told {
        answers: answers
            .map(|((target, task), count)| (*target, task.clone(), *count))
            .collect(),
        clients: report.clients.iter().copied().collect(),
        connections: report.connections,
        failures: report.failures.clone(),
        slowest: report.slowest,
    })
}

/// Reads one that was written down.
pub fn hear(text: &str) -> serde_json::Result<Report> {
    let told: Told = serde_json::from_str(text)?;
    let answers = told.answers.into_iter();
    Ok(Report {
        answers: answers
            .map(|(target, task, count)| ((target, task), count))
            .collect(),
        clients: told.clients.into_iter().collect(),
        connections: told.connections,
        failures: told.failures,
        slowest: told.slowest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pages_are_taken_apart() {
        let url = |text: &str| text.parse::<Url>().map(|url| (url.host, url.port, url.path));
        assert_eq!(url("http://web").unwrap(), ("web".into(), 80, "/".into()));
        assert_eq!(
            url("http://web.shop:8080/slow/10").unwrap(),
            ("web.shop".into(), 8080, "/slow/10".into())
        );
        assert_eq!(
            url("http://[2001:db8::1]/").unwrap(),
            ("[2001:db8::1]".into(), 80, "/".into())
        );
        assert!(url("web").is_err());
    }

    #[test]
    fn a_report_survives_being_told() {
        let target = SocketAddr::from(([10, 254, 0, 1], 80));
        let mut report = Report::default();
        report.answers.insert((target, "a".into()), 3);
        report.clients.insert(target.ip());
        report.failures.push(Failure {
            at: Duration::from_secs(1),
            target,
            kind: Kind::Refused,
            task: None,
            local: None,
            words: "refused".into(),
        });
        let heard = hear(&tell(&report).unwrap()).unwrap();
        assert_eq!(format!("{heard:?}"), format!("{report:?}"));
    }
}
