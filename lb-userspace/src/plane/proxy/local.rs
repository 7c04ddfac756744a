//! Routes of type `local`: what is sent by them reaches this machine's own sockets.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Error, RouteMessageBuilder};

use crate::plane::ROUTE_PROTOCOL;

/// The loopback device, in every network namespace.
const LOOPBACK: u32 = 1;

/// As `ip route add local NET dev lo table TABLE`.
pub fn route(net: IpNet, table: u32) -> Result<RouteMessage, Error> {
    let impossible = |_| Error::InvalidNla("a prefix longer than its address".into());
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .map_err(impossible)?
        .output_interface(LOOPBACK)
        .table_id(table)
        .kind(RouteType::Local)
        .protocol(ROUTE_PROTOCOL);
    Ok(match net {
        IpNet::V4(_) => builder.scope(RouteScope::Host).build(),
        IpNet::V6(_) => builder.build(),
    })
}
