//! `portico.health=tcp`, `portico.health=http:/healthz`, `portico.health=http:8081/healthz` and what adjusts them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Fault, PREFIX, Settings};
use crate::config::time;
use crate::model::{Exposed, HealthCheck, Probe, Protocol};
use crate::source::checks::{BOUNDS, FAILURES, INTERVAL, MAX_THRESHOLD, SUCCESSES, TIMEOUT, is_path};

/// A check as far as labels say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Of `portico.health`, for messages.
    value: String,
    probe: Probe,
    port: Option<u16>,
    interval: Duration,
    timeout: Duration,
    failures: u32,
    successes: u32,
}

/// The labels of a check, which are read together.
#[derive(Default)]
pub struct Labels<'l>(BTreeMap<&'l str, &'l str>);

impl<'l> Labels<'l> {
    /// A label without its prefix.
    pub fn take(&mut self, name: &'l str, value: &'l str) {
        self.0.insert(name, value);
    }

    pub fn read(&self, faults: &mut Vec<Fault>) -> Option<Written> {
        let Some(value) = self.0.get("health") else {
            faults.extend(self.0.iter().map(|(name, value)| {
                let fix = format!("add {PREFIX}health=tcp or {PREFIX}health=http:/PATH, or remove this one");
                Fault::new(
                    &format!("{PREFIX}{name}"),
                    value,
                    "there is no health check that this could adjust",
                    fix,
                )
            }));
            return None;
        };
        if matches!(*value, "" | "none" | "off" | "false") {
            return None;
        }
        let (probe, in_path) = match probe(value) {
            Ok(probe) => probe,
            Err(fault) => {
                faults.push(*fault);
                return None;
            }
        };
        let interval = self.time("health.interval", INTERVAL, faults);
        let mut timeout = self.time("health.timeout", TIMEOUT.min(interval), faults);
        if timeout > interval {
            let written = self.0.get("health.timeout").copied().unwrap_or_default();
            let label = format!("{PREFIX}health.timeout");
            faults.push(Fault::new(
                &label,
                written,
                "longer than the interval",
                "set it to at most the interval",
            ));
            timeout = interval;
        }
        Some(Written {
            value: (*value).to_owned(),
            probe,
            port: self.port(faults).or(in_path),
            interval,
            timeout,
            failures: self.count("health.failures", FAILURES, faults),
            successes: self.count("health.successes", SUCCESSES, faults),
        })
    }

    fn time(&self, name: &str, default: Duration, faults: &mut Vec<Fault>) -> Duration {
        let Some(value) = self.0.get(name) else {
            return default;
        };
        time::parse(value)
            .filter(|time| BOUNDS.contains(time))
            .unwrap_or_else(|| {
                let fix = "write a number and ms, s, m or h, such as 2s";
                faults.push(Fault::new(
                    &format!("{PREFIX}{name}"),
                    value,
                    "not a time from 10ms to 1h",
                    fix,
                ));
                default
            })
    }

    fn count(&self, name: &str, default: u32, faults: &mut Vec<Fault>) -> u32 {
        let Some(value) = self.0.get(name) else {
            return default;
        };
        let count = value
            .parse::<u64>()
            .ok()
            .filter(|count| (1..=MAX_THRESHOLD).contains(count));
        count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_else(|| {
                let reason = format!("not a number from 1 to {MAX_THRESHOLD}");
                faults.push(Fault::new(
                    &format!("{PREFIX}{name}"),
                    value,
                    reason,
                    "write how many probes in a row decide",
                ));
                default
            })
    }

    fn port(&self, faults: &mut Vec<Fault>) -> Option<u16> {
        let value = self.0.get("health.port")?;
        let port = port(value);
        if port.is_none() {
            let label = format!("{PREFIX}health.port");
            faults.push(Fault::new(
                &label,
                value,
                "not a port",
                "write a port from 1 to 65535",
            ));
        }
        port
    }
}

/// The probe, and the port that is written before its path.
fn probe(value: &str) -> Result<(Probe, Option<u16>), Box<Fault>> {
    let fault =
        |reason: &str, fix: &str| Box::new(Fault::new(&format!("{PREFIX}health"), value, reason, fix));
    let forms = "write tcp, http:/PATH or http:PORT/PATH";
    match value.split_once(':') {
        None if value == "tcp" => Ok((Probe::Tcp, None)),
        Some(("tcp", written)) => match port(written) {
            Some(port) => Ok((Probe::Tcp, Some(port))),
            None => Err(fault("this is no port", forms)),
        },
        Some(("http", rest)) => {
            let (written, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let port = match (written, port(written)) {
                ("", _) => None,
                (_, Some(port)) => Some(port),
                _ => return Err(fault("there is no port before the path", forms)),
            };
            if !is_path(path) {
                return Err(fault(
                    "this is not the path of a request",
                    "write one like http:/healthz, percent-encoded",
                ));
            }
            Ok((
                Probe::Http {
                    path: path.to_owned(),
                },
                port,
            ))
        }
        _ => Err(fault("this is no health check", forms)),
    }
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl Settings {
    /// The health check of a service whose tasks have these ports: the first of TCP is probed unless a label says
    /// another.
    pub fn health(&self, exposed: &[Exposed]) -> Result<Option<HealthCheck>, Fault> {
        let Some(written) = &self.health else {
            return Ok(None);
        };
        let tcp = exposed.iter().find(|exposed| exposed.protocol == Protocol::Tcp);
        let Some(port) = written.port.or(tcp.map(|exposed| exposed.port)) else {
            let fix = format!("add {PREFIX}health.port, or the port to {PREFIX}expose");
            return Err(Fault::new(
                &format!("{PREFIX}health"),
                &written.value,
                "the service has no TCP port to probe",
                fix,
            ));
        };
        Ok(Some(HealthCheck {
            probe: written.probe.clone(),
            port,
            interval: written.interval,
            timeout: written.timeout,
            failures: written.failures,
            successes: written.successes,
        }))
    }
}
