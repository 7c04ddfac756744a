//! Routes, and the devices of default routes.

use std::fs;
use std::net::IpAddr;

use futures_util::stream::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::Error;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};

use super::Netlink;
use crate::plane::ROUTE_PROTOCOL;
use crate::plane::ebpf::host::{Entry, Host};
use crate::plane::ebpf::portico0;

impl Netlink {
    pub(super) async fn read_routes(&self, host: &mut Host) -> Result<(), Error> {
        host.ipv6 = is_ipv6_on();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let mut routes = self.handle.load().route().get(question).execute();
            while let Some(route) = routes.try_next().await? {
                let leads = route.header.kind == RouteType::Unicast;
                if !leads && !is_shut(&route) {
                    continue;
                }
                add_gateways(host, &route);
                if route.header.destination_prefix_length != 0 {
                    host.table.extend(entry(&route));
                } else if leads {
                    add_default(host, &route);
                }
            }
        }
        Ok(())
    }
}

const fn is_shut(route: &RouteMessage) -> bool {
    use RouteType::{BlackHole, Prohibit, Unreachable};
    matches!(route.header.kind, BlackHole | Unreachable | Prohibit)
}

fn add_gateways(host: &mut Host, route: &RouteMessage) {
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => host.gateways.extend(address_of(gateway)),
            RouteAttribute::MultiPath(hops) => {
                let attributes = hops.iter().flat_map(|hop| &hop.attributes);
                host.gateways
                    .extend(attributes.filter_map(|attribute| match attribute {
                        RouteAttribute::Gateway(gateway) => address_of(gateway),
                        _ => None,
                    }));
            }
            _ => {}
        }
    }
}

fn add_default(host: &mut Host, route: &RouteMessage) {
    let (mut device, mut gateway) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                device = Some(*index);
                host.default_routes.insert(*index);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => gateway = Some(*ip),
            RouteAttribute::MultiPath(hops) => {
                host.default_routes
                    .extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    if let (Some(device), Some(gateway)) = (device, gateway) {
        // The kernel lists the preferred one first.
        host.gateways6.entry(device).or_insert(gateway);
    }
}

fn entry(route: &RouteMessage) -> Option<Entry> {
    let (mut ip, mut device, mut source, mut mtu) = (None, None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => ip = address_of(address),
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::PrefSource(address) => source = address_of(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Entry {
        net: IpNet::new(ip?, route.header.destination_prefix_length).ok()?,
        // IPv6's that are shut are said to lead to the loopback device.
        device: device.filter(|_| !is_shut(route)),
        source,
        mtu,
        main: route.header.table == RouteHeader::RT_TABLE_MAIN,
        shut: is_shut(route),
        ours: route.header.protocol == ROUTE_PROTOCOL,
    })
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// For `portico0`, or where that is not there yet, for devices to come.
fn is_ipv6_on() -> bool {
    let off = |device: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"));
    off(portico0::NAME)
        .or_else(|_| off("default"))
        .is_ok_and(|off| off.trim() == "0")
}
