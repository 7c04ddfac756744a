//! `health: { http: /healthz, interval: 2s, timeout: 1s, failures: 3, successes: 2 }` or `health: { tcp: true }`.

use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use super::super::fault::Fault;
use super::super::raw;
use crate::config::time;
use crate::model::{Exposed, HealthCheck, Probe, Protocol};
use crate::source::checks::{BOUNDS, FAILURES, INTERVAL, MAX_THRESHOLD, SUCCESSES, TIMEOUT, is_path};

/// The check, unless something of it cannot be read.
pub fn check(
    written: &Spanned<raw::Health>,
    exposed: &[Exposed],
    faults: &mut Vec<Fault>,
) -> Option<HealthCheck> {
    let Spanned {
        value: health,
        referenced: place,
        ..
    } = written;
    let before = faults.len();
    let probe = probe(health, *place, faults);
    let interval = duration(&health.interval, INTERVAL, faults);
    let timeout = duration(&health.timeout, TIMEOUT.min(interval), faults);
    let failures = count(&health.failures, FAILURES, faults);
    let successes = count(&health.successes, SUCCESSES, faults);
    let tcp = exposed.iter().find(|exposed| exposed.protocol == Protocol::Tcp);
    let port = match &health.port {
        Some(port) => u16::try_from(port.value)
            .ok()
            .filter(|port| *port != 0)
            .unwrap_or_else(|| {
                let reason = format!("`{}` is not a port", port.value);
                faults.push(Fault::at(port.referenced, reason, "write a port from 1 to 65535"));
                0
            }),
        None => tcp.map_or(0, |exposed| exposed.port),
    };
    if timeout > interval {
        let place = health
            .timeout
            .as_ref()
            .map_or(*place, |timeout| timeout.referenced);
        faults.push(Fault::at(
            place,
            "timeout is longer than interval",
            "set timeout to at most the interval",
        ));
    }
    if port == 0 && health.port.is_none() {
        let reason = "the service has no TCP port to probe";
        faults.push(Fault::at(*place, reason, "add port: NUMBER to health"));
    }
    (faults.len() == before).then_some(HealthCheck {
        probe: probe?,
        port,
        interval,
        timeout,
        failures,
        successes,
    })
}

fn probe(health: &raw::Health, place: Location, faults: &mut Vec<Fault>) -> Option<Probe> {
    match (&health.http, health.tcp) {
        (Some(path), None) => {
            if !is_path(&path.value) {
                let reason = format!("`{}` is not the path of a request", path.value);
                faults.push(Fault::at(
                    path.referenced,
                    reason,
                    "write one like /healthz, percent-encoded",
                ));
            }
            Some(Probe::Http {
                path: path.value.clone(),
            })
        }
        (None, Some(true)) => Some(Probe::Tcp),
        _ => {
            let reason = "a health check is either http: PATH or tcp: true";
            faults.push(Fault::at(
                place,
                reason,
                "write one of the two, or leave health out",
            ));
            None
        }
    }
}

fn duration(written: &Option<Spanned<String>>, default: Duration, faults: &mut Vec<Fault>) -> Duration {
    let Some(written) = written else { return default };
    time::parse(&written.value)
        .filter(|duration| BOUNDS.contains(duration))
        .unwrap_or_else(|| {
            let reason = format!("`{}` is not a time from 10ms to 1h", written.value);
            faults.push(Fault::at(
                written.referenced,
                reason,
                "write a number and ms, s, m or h, such as 2s",
            ));
            default
        })
}

fn count(written: &Option<Spanned<u64>>, default: u32, faults: &mut Vec<Fault>) -> u32 {
    let Some(written) = written else { return default };
    if !(1..=MAX_THRESHOLD).contains(&written.value) {
        let reason = format!("{} is not within 1 to {MAX_THRESHOLD}", written.value);
        faults.push(Fault::at(
            written.referenced,
            reason,
            "write how many probes in a row decide",
        ));
        return default;
    }
    written.value as u32
}
