//! What a service asks of the planes. It came later than the rest of a service: by default nothing of it is written, and who
//! does not find it takes the defaults.

use std::time::Duration;

use ipnet::IpNet;

use super::decode::{address, unknown};
use super::encode::{nanoseconds, octets};
use super::{Fault, Problem};
use crate::model::{Algorithm, Plane, ProxyRules, ProxyVersion};
use crate::source::stream::wire;

pub fn encode(rules: &ProxyRules) -> Option<wire::ProxyRules> {
    if *rules == ProxyRules::default() {
        return None;
    }
    let plane = match rules.plane {
        Plane::Auto => wire::Plane::Auto,
        Plane::Ebpf => wire::Plane::Ebpf,
        Plane::Proxy => wire::Plane::Proxy,
    };
    let version = |version| match version {
        ProxyVersion::V1 => wire::ProxyVersion::V1,
        ProxyVersion::V2 => wire::ProxyVersion::V2,
    };
    Some(wire::ProxyRules {
        plane: Some(plane.into()),
        send: rules.send.map(version).map(Into::into),
        accept: rules.accept.iter().map(range).collect(),
        transparent: rules.transparent,
        connect_timeout_ns: Some(nanoseconds(rules.connect_timeout)),
        retries: Some(rules.retries),
        idle_ns: rules.idle.map_or(0, nanoseconds),
        drain_ns: rules.drain.map(nanoseconds),
        least_connections: rules.algorithm == Algorithm::LeastConnections,
    })
}

fn range(net: &IpNet) -> wire::Range {
    wire::Range {
        address: octets(net.addr()),
        bits: net.prefix_len().into(),
    }
}

pub fn decode(rules: wire::ProxyRules) -> Result<ProxyRules, Fault> {
    let default = ProxyRules::default();
    let accept = rules.accept.iter().map(net);
    Ok(ProxyRules {
        plane: rules.plane.map_or(Ok(default.plane), plane)?,
        algorithm: if rules.least_connections {
            Algorithm::LeastConnections
        } else {
            Algorithm::Hash
        },
        send: rules.send.map(version).transpose()?,
        accept: accept.collect::<Result<_, _>>()?,
        transparent: rules.transparent,
        connect_timeout: rules
            .connect_timeout_ns
            .map_or(default.connect_timeout, Duration::from_nanos),
        retries: rules.retries.unwrap_or(default.retries),
        idle: (rules.idle_ns != 0).then(|| Duration::from_nanos(rules.idle_ns)),
        drain: rules.drain_ns.map(Duration::from_nanos),
    })
}

fn plane(value: i32) -> Result<Plane, Fault> {
    match wire::Plane::try_from(value) {
        Ok(wire::Plane::Auto) => Ok(Plane::Auto),
        Ok(wire::Plane::Ebpf) => Ok(Plane::Ebpf),
        Ok(wire::Plane::Proxy) => Ok(Plane::Proxy),
        Ok(wire::Plane::Unspecified) | Err(_) => Err(unknown("its plane", value)),
    }
}

fn version(value: i32) -> Result<ProxyVersion, Fault> {
    match wire::ProxyVersion::try_from(value) {
        Ok(wire::ProxyVersion::V1) => Ok(ProxyVersion::V1),
        Ok(wire::ProxyVersion::V2) => Ok(ProxyVersion::V2),
        Ok(wire::ProxyVersion::Unspecified) | Err(_) => {
            Err(unknown("its version of the PROXY protocol", value))
        }
    }
}

fn net(range: &wire::Range) -> Result<IpNet, Fault> {
    let address = address(&range.address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = u8::try_from(range.bits).ok();
    let net = bits.and_then(|bits| IpNet::new(address, bits).ok());
    net.ok_or_else(|| {
        Problem::Range {
            bits: range.bits,
            most,
        }
        .into()
    })
}
