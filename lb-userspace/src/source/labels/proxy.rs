//! `portico.plane` and `portico.proxy.*`: how a service is proxied.

use std::time::Duration;

use super::value::{Sink, items};
use super::{Fault, PREFIX};
use crate::model::{Affinity, Algorithm, Plane, ProxyRules, ProxyVersion};
use crate::source::proxying::{CONNECT_TIMEOUT, DRAIN, IDLE, MAX_RANGES, MAX_RETRIES, TIMES, Times, range};

const PLANE: &str = "plane";
const ALGORITHM: &str = "algorithm";

impl Sink<'_> {
    pub fn plane(&mut self, value: &str) -> Option<Plane> {
        let known = [Plane::Auto, Plane::Ebpf, Plane::Proxy];
        self.word(value, &known.map(|plane| (plane.label(), plane)))
    }

    /// One of `proxy.*`; what cannot be read changes nothing.
    pub fn rule(&mut self, name: &str, value: &str, rules: &mut ProxyRules) {
        match name {
            "proxy.send" => {
                let version = |version: ProxyVersion| (version.label(), Some(version));
                let known = [
                    ("none", None),
                    version(ProxyVersion::V1),
                    version(ProxyVersion::V2),
                ];
                rules.send = self.word(value, &known).flatten();
            }
            "proxy.accept" => self.ranges(value, rules),
            "proxy.transparent" => rules.transparent = self.flag(value).unwrap_or_default(),
            "proxy.connect_timeout" => {
                let timeout = self.time(value, &CONNECT_TIMEOUT);
                rules.connect_timeout = timeout.unwrap_or(ProxyRules::CONNECT_TIMEOUT);
            }
            "proxy.retries" => {
                let retries = value.parse().ok().filter(|retries| *retries <= MAX_RETRIES);
                if retries.is_none() {
                    self.refuse(
                        value,
                        format!("not a number from 0 to {MAX_RETRIES}"),
                        "write how many further tasks are tried",
                    );
                }
                rules.retries = retries.unwrap_or(ProxyRules::RETRIES);
            }
            "proxy.idle" => rules.idle = self.time(value, &IDLE).filter(|idle| !idle.is_zero()),
            "proxy.drain" => rules.drain = self.time(value, &DRAIN),
            _ => {}
        }
    }

    fn time(&mut self, value: &str, times: &Times) -> Option<Duration> {
        let time = times.parse(value);
        if time.is_none() {
            self.refuse(value, format!("not {}", times.words), TIMES);
        }
        time
    }

    /// Each once.
    fn ranges(&mut self, value: &str, rules: &mut ProxyRules) {
        for item in items(value) {
            match range(item) {
                Ok(net) if rules.accept.contains(&net) => {}
                Ok(_) if rules.accept.len() == MAX_RANGES => {
                    let reason = format!("more than {MAX_RANGES} ranges");
                    self.refuse(item, reason, "write fewer, larger ones");
                    break;
                }
                Ok(net) => rules.accept.push(net),
                Err(bad) => self.refuse(item, bad.to_string(), bad.fix()),
            }
        }
    }
}

/// Of two labels that cannot both be in force that of the algorithm yields, and that of the plane.
pub fn agree(rules: &mut ProxyRules, affinity: Affinity, faults: &mut Vec<Fault>) {
    if rules.algorithm == Algorithm::LeastConnections && affinity == Affinity::ClientIp {
        faults.push(Fault::new(
            &format!("{PREFIX}{ALGORITHM}"),
            "least-connections",
            "it sends one client to several tasks, and affinity is client-ip",
            format!("remove it, or {PREFIX}affinity"),
        ));
        rules.algorithm = Algorithm::Hash;
    }
    let Some(need) = rules.contradiction() else {
        return;
    };
    faults.push(Fault::new(
        &format!("{PREFIX}{PLANE}"),
        rules.plane.label(),
        format!("{need}, which only the proxy does"),
        "remove it, or the other label",
    ));
    rules.plane = Plane::Auto;
}
