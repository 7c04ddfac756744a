//! Reads the machine through rtnetlink, and hears when it changes.

mod pair;
mod routes;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::stream::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Error, Handle};
use tokio::sync::Mutex;

use super::host::{Address, Device, Host, Mac, Neighbour, Route};
use crate::plane::{EbpfError, netlink};

/// RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;

/// A connection to the kernel.
pub struct Netlink {
    /// Replaced after a failure: its connection ends with the first error, and answers nothing from then on.
    handle: ArcSwap<Handle>,
    /// The kernel gives one listing at a time to a socket and answers a second request with EBUSY.
    turn: Mutex<()>,
}

impl Netlink {
    pub fn connect() -> Result<Self, EbpfError> {
        Ok(Self {
            handle: ArcSwap::from_pointee(open()?),
            turn: Mutex::default(),
        })
    }

    /// Something arrives whenever devices, addresses, neighbours or routes change.
    pub fn changes() -> Result<impl Stream<Item = ()> + Unpin, EbpfError> {
        let (mut connection, _, messages) = rtnetlink::new_connection().map_err(failed)?;
        connection
            .socket_mut()
            .socket_mut()
            .bind(&SocketAddr::new(0, GROUPS))
            .map_err(failed)?;
        tokio::spawn(connection);
        Ok(messages.map(|_| ()))
    }

    /// The whole picture, with the ways to `destinations`.
    pub async fn read(&self, destinations: &BTreeSet<IpAddr>) -> Result<Host, EbpfError> {
        let _turn = self.turn.lock().await;
        let mut host = Host::default();
        if let Err(error) = self.read_all(&mut host).await {
            self.handle.store(Arc::new(open()?));
            return Err(failed(error));
        }
        for &destination in destinations {
            // No route is no error.
            if let Some(route) = self.route(destination).await {
                host.routes.insert(destination, route);
            }
        }
        Ok(host)
    }

    async fn read_all(&self, host: &mut Host) -> Result<(), Error> {
        self.read_devices(host).await?;
        self.read_addresses(host).await?;
        self.read_neighbours(host).await?;
        self.read_routes(host).await
    }

    /// Has the kernel find out, or confirm, a neighbour's link-layer address. One that leads to no port of its bridge
    /// is forgotten first: the kernel would ask the old owner of the address for seconds before it asks everybody.
    pub async fn resolve(&self, device: u32, address: IpAddr, is_bridged: bool) {
        let mut request = self.handle.load_full().neighbours().add(device, address);
        if is_bridged {
            let entry = request.message_mut().clone();
            // There may be none.
            let _ = self.handle.load_full().neighbours().del(entry).execute().await;
        }
        let request = request
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        if let Err(error) = request.execute().await {
            tracing::debug!(device, %address, %error, "cannot ask for a neighbour");
        }
    }

    async fn read_devices(&self, host: &mut Host) -> Result<(), Error> {
        let mut links = self.handle.load().link().get().execute();
        while let Some(link) = links.try_next().await? {
            host.devices.insert(link.header.index, device(&link));
        }
        Ok(())
    }

    async fn read_addresses(&self, host: &mut Host) -> Result<(), Error> {
        let mut addresses = self.handle.load().address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let (mut near, mut far) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(ip) => near = Some(*ip),
                    AddressAttribute::Address(ip) => far = Some(*ip),
                    _ => {}
                }
            }
            // On a point-to-point device "address" is the other end's.
            if let Some(ip) = near.or(far) {
                let (device, prefix) = (message.header.index, message.header.prefix_len);
                host.addresses.push(Address { device, ip, prefix });
            }
        }
        Ok(())
    }

    async fn read_neighbours(&self, host: &mut Host) -> Result<(), Error> {
        let mut neighbours = self.handle.load().neighbours().get().execute();
        while let Some(message) = neighbours.try_next().await? {
            add_neighbour(host, &message);
        }
        let mut request = self.handle.load_full().neighbours().get();
        request.message_mut().header.family = AddressFamily::Bridge;
        let mut bridged = request.execute();
        while let Some(message) = bridged.try_next().await? {
            add_bridged(host, &message);
        }
        Ok(())
    }

    async fn route(&self, destination: IpAddr) -> Option<Route> {
        let mut question = RouteMessage::default();
        (
            question.header.address_family,
            question.header.destination_prefix_length,
        ) = match destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        let mut answers = self.handle.load().route().get(question).execute();
        let answer = answers.try_next().await.ok()??;
        let mut route = Route {
            device: 0,
            gateway: None,
            source: None,
            mtu: None,
            local: answer.header.kind == RouteType::Local,
        };
        for attribute in &answer.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.device = *index,
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => route.gateway = Some((*ip).into()),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => route.gateway = Some((*ip).into()),
                RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => route.source = Some(*ip),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        (route.device != 0).then_some(route)
    }
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device {
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        up: link.header.flags.contains(LinkFlags::Up),
        asks: !link.header.flags.contains(LinkFlags::Noarp),
        ..Device::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Address(bytes) => device.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Controller(master) => device.master = Some(*master),
            LinkAttribute::Link(index) => device.peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => device.peer_namespace = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(infos) => {
                device.xdp = infos.iter().find_map(|info| match info {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if device.peer_namespace.is_some() || device.kind.as_deref() != Some("veth") {
        // A number of another namespace; or the device that this one is made on.
        device.peer = None;
    }
    device
}

fn add_neighbour(host: &mut Host, message: &NeighbourMessage) {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    let state = message.header.state;
    if !matches!(state, Reachable | Permanent | Delay | Probe | Stale | Noarp) {
        return;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::from(*v6)),
            NeighbourAttribute::LinkLocalAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    if let (Some(ip), Some(mac)) = (ip, mac) {
        let neighbour = Neighbour {
            mac,
            fresh: state != Stale,
        };
        host.neighbours.insert((message.header.ifindex, ip), neighbour);
    }
}

/// Entries of a bridge's forwarding table; the permanent ones are the ports' own addresses.
fn add_bridged(host: &mut Host, message: &NeighbourMessage) {
    let (mut mac, mut bridge) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLocalAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            _ => {}
        }
    }
    if let (Some(mac), Some(bridge)) = (mac, bridge)
        && message.header.state != NeighbourState::Permanent
    {
        host.bridged.insert((bridge, mac), message.header.ifindex);
    }
}

fn open() -> Result<Handle, EbpfError> {
    netlink::connect().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> EbpfError {
    EbpfError::Netlink(error.to_string())
}
