//! Changes to `portico0` and its other end.

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{Error, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Netlink;
use crate::plane::ROUTE_PROTOCOL;
use crate::plane::ebpf::host::Mac;
use crate::plane::ebpf::portico0::{self, Step, Way};

impl Netlink {
    /// Takes one step. The error is the kernel's.
    pub async fn take(&self, step: &Step) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let handle = self.handle.load_full();
        match *step {
            Step::Make { front, back } => {
                let other = end::<LinkUnspec>(back, portico0::BACK_MAC).name(portico0::BACK.into());
                let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
                    .name(portico0::NAME.into())
                    .index(front)
                    // An address made up by the kernel is replaced by udev, whenever that comes to it.
                    .address(portico0::MAC.to_vec())
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(other.build())));
                handle.link().add(pair.build()).execute().await
            }
            Step::Remove(index) => handle.link().del(index).execute().await,
            Step::Prepare { index, mac } => {
                let silence = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
                let silent = LinkUnspec::new_with_index(index)
                    .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(silence)]));
                // No address of its own, and no talk about one. Where IPv6 is off there is nothing to prevent.
                let _ = handle.link().set(silent.build()).execute().await;
                handle
                    .link()
                    .set(end::<LinkUnspec>(index, mac).up().build())
                    .execute()
                    .await
            }
            Step::AddAddress(index, ip) => {
                let mut request = handle.address().add(index, ip, portico0::whole(ip));
                if ip.is_ipv4() {
                    // Never chosen as the source of a connection that does not ask for it.
                    request.message_mut().header.scope = AddressScope::Host;
                }
                request.execute().await
            }
            Step::DropAddress(index, ip) => {
                let mut request = handle.address().add(index, ip, portico0::whole(ip));
                let message: AddressMessage = request.message_mut().clone();
                handle.address().del(message).execute().await
            }
            Step::AddRoute(ref way) => handle.route().add(route(way)?).execute().await,
            Step::ReplaceRoute(ref way) => handle.route().add(route(way)?).replace().execute().await,
            Step::DropRoute(ref way) => handle.route().del(route(way)?).execute().await,
        }
    }
}

fn end<T>(index: u32, mac: Mac) -> LinkMessageBuilder<T> {
    LinkMessageBuilder::<T>::default()
        .index(index)
        .address(mac.to_vec())
        .mtu(portico0::MTU)
        .arp(false)
}

fn route(way: &Way) -> Result<RouteMessage, Error> {
    let impossible = |_| Error::InvalidNla("a route of two address families".into());
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(way.net.network(), way.net.prefix_len())
        .map_err(impossible)?
        .output_interface(way.device)
        .protocol(ROUTE_PROTOCOL);
    if way.net.network().is_ipv4() {
        route = route.scope(RouteScope::Link);
    }
    if let Some(source) = way.source {
        route = route.pref_source(source).map_err(impossible)?;
    }
    let mut message = route.build();
    if let Some(mtu) = way.mtu {
        let metrics = vec![RouteMetric::Mtu(mtu)];
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    Ok(message)
}
