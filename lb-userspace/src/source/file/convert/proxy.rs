//! `plane: proxy`, `algorithm: least-connections` and `proxy: { send: v2, accept: [192.0.2.0/24], connect_timeout: 2s, retries: 2, idle: 1h, drain: 30s }`.

use std::time::Duration;

use ipnet::IpNet;
use serde_saphyr::{Location, Spanned};

use super::super::fault::Fault;
use super::super::raw;
use crate::model::{Affinity, Algorithm, Plane, ProxyRules, ProxyVersion};
use crate::source::proxying::{CONNECT_TIMEOUT, DRAIN, IDLE, MAX_RANGES, MAX_RETRIES, TIMES, Times, range};

/// What is asked of the planes, with the defaults in place of what cannot be read.
pub fn rules(written: &raw::Service, affinity: Affinity, faults: &mut Vec<Fault>) -> ProxyRules {
    let mut rules = ProxyRules::default();
    if let Some(proxy) = &written.proxy {
        rules.send = match proxy.send {
            raw::Sent::None => None,
            raw::Sent::V1 => Some(ProxyVersion::V1),
            raw::Sent::V2 => Some(ProxyVersion::V2),
        };
        rules.accept = ranges(&proxy.accept, faults);
        rules.transparent = proxy.transparent;
        if let Some(timeout) = time(&proxy.connect_timeout, &CONNECT_TIMEOUT, faults) {
            rules.connect_timeout = timeout;
        }
        if let Some(retries) = &proxy.retries {
            rules.retries = count(retries, faults);
        }
        rules.idle = time(&proxy.idle, &IDLE, faults).filter(|idle| !idle.is_zero());
        rules.drain = time(&proxy.drain, &DRAIN, faults);
    }
    if let Some(written) = &written.algorithm {
        rules.algorithm = algorithm(written, affinity, faults);
    }
    if let Some(plane) = &written.plane {
        rules.plane = match plane.value {
            raw::Plane::Auto => Plane::Auto,
            raw::Plane::Ebpf => Plane::Ebpf,
            raw::Plane::Proxy => Plane::Proxy,
        };
        faults.extend(contradiction(plane.referenced, &rules));
    }
    rules
}

fn algorithm(written: &Spanned<raw::Algorithm>, affinity: Affinity, faults: &mut Vec<Fault>) -> Algorithm {
    let mut refuse = |reason: &str, fix: &str| {
        faults.push(Fault::at(written.referenced, reason.to_owned(), fix));
        Algorithm::Hash
    };
    match written.value {
        raw::Algorithm::Hash => Algorithm::Hash,
        raw::Algorithm::RoundRobin => refuse(
            "algorithm round-robin is not available yet",
            "write hash or least-connections",
        ),
        raw::Algorithm::LeastConnections if affinity == Affinity::ClientIp => refuse(
            "algorithm least-connections sends one client to several tasks, and affinity is client-ip",
            "leave one of them out",
        ),
        raw::Algorithm::LeastConnections => Algorithm::LeastConnections,
    }
}

fn contradiction(place: Location, rules: &ProxyRules) -> Option<Fault> {
    let need = rules.contradiction()?;
    let reason = format!("{need}, which only the proxy does, and plane is ebpf");
    Some(Fault::at(place, reason, "leave plane out, or that of proxy:"))
}

fn ranges(written: &[Spanned<String>], faults: &mut Vec<Fault>) -> Vec<IpNet> {
    if let Some(more) = written.get(MAX_RANGES) {
        let reason = format!("{} ranges are more than {MAX_RANGES}", written.len());
        faults.push(Fault::at(more.referenced, reason, "write fewer, larger ones"));
    }
    let mut ranges = Vec::new();
    for entry in written.iter().take(MAX_RANGES) {
        match range(&entry.value) {
            Ok(net) if ranges.contains(&net) => {}
            Ok(net) => ranges.push(net),
            Err(bad) => faults.push(Fault::at(entry.referenced, bad.to_string(), bad.fix())),
        }
    }
    ranges
}

fn time(written: &Option<Spanned<String>>, times: &Times, faults: &mut Vec<Fault>) -> Option<Duration> {
    let written = written.as_ref()?;
    let time = times.parse(&written.value);
    if time.is_none() {
        let reason = format!("`{}` is not {}", written.value, times.words);
        faults.push(Fault::at(written.referenced, reason, TIMES));
    }
    time
}

fn count(written: &Spanned<u64>, faults: &mut Vec<Fault>) -> u32 {
    let count = u32::try_from(written.value).ok();
    count.filter(|count| *count <= MAX_RETRIES).unwrap_or_else(|| {
        faults.push(Fault::at(
            written.referenced,
            format!("{} is not within 0 to {MAX_RETRIES}", written.value),
            "write how many further tasks are tried",
        ));
        ProxyRules::RETRIES
    })
}
