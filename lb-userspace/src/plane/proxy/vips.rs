//! Addresses of services become this machine's own, so that what is sent to them reaches the proxy's sockets: routes of
//! type `local` at the loopback device, for the whole networks that VIPs are taken from and for each other VIP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::stream::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Error, Handle};

use super::{ends, local};
use crate::config::Config;
use crate::plane::{Problem, ROUTE_PROTOCOL, netlink};

/// What the kernel keeps a machine's own addresses in (RT_TABLE_LOCAL).
const TABLE: u32 = 255;

/// Those that are there.
pub struct Vips {
    /// Wanted whatever the snapshot says where the proxy is alone: where VIPs are taken from, and where the name server listens.
    always: BTreeSet<IpNet>,
    wanted: BTreeSet<IpNet>,
    /// `None`: not looked at yet. An agent before this one may have left some.
    there: Option<BTreeSet<IpNet>>,
    failed: BTreeMap<IpNet, String>,
}

impl Vips {
    pub fn new(config: &Config) -> Self {
        let listen = config.dns.listen.iter().map(|address| address.ip());
        // An address of the machine is there already; the others are taken for names alone.
        let own = listen.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        let pools = config.vip.pool.iter().copied();
        Self {
            always: pools.chain(own.map(IpNet::from)).collect(),
            wanted: BTreeSet::new(),
            there: None,
            failed: BTreeMap::new(),
        }
    }

    /// Makes the routes for these VIPs, and takes away others of ours. Beside packet programs what this machine's own processes
    /// send to other VIPs goes by `portico0`.
    pub async fn follow(&mut self, vips: impl Iterator<Item = IpAddr>, is_alone: bool) {
        let always = if is_alone {
            self.always.clone()
        } else {
            BTreeSet::new()
        };
        let single = vips.filter(|vip| !always.iter().any(|net| net.contains(vip)));
        let mut wanted: BTreeSet<IpNet> = single.map(IpNet::from).collect();
        wanted.extend(always);
        self.wanted = wanted;
        self.mend().await;
    }

    /// Whether it was ever said what is wanted.
    pub const fn are_started(&self) -> bool {
        self.there.is_some()
    }

    /// Whether all is as it should be.
    pub fn are_settled(&self) -> bool {
        self.there.as_ref() == Some(&self.wanted)
    }

    /// Whether what is sent to it reaches this machine's sockets.
    pub fn has(&self, ip: IpAddr) -> bool {
        let there = self.there.iter();
        // Other networks than single addresses are always wanted: few.
        let mut wide = self.always.iter();
        there.clone().any(|there| there.contains(&IpNet::from(ip)))
            || wide.any(|net| net.contains(&ip) && there.clone().any(|there| there.contains(net)))
    }

    /// Does what is left to be done.
    pub async fn mend(&mut self) {
        if self.are_settled() {
            return;
        }
        self.failed.clear();
        let handle = match netlink::connect() {
            Ok(handle) => handle,
            Err(error) => {
                let failed = self.wanted.iter().map(|net| (*net, error.to_string()));
                self.failed = failed.collect();
                return;
            }
        };
        let mut there = match self.there.take() {
            Some(there) => there,
            None => left(&handle).await,
        };
        for net in &self.wanted {
            if there.contains(net) {
                continue;
            }
            match set(&handle, *net, true).await {
                Ok(()) => {
                    there.insert(*net);
                }
                Err(error) => {
                    self.failed.insert(*net, error.to_string());
                }
            }
        }
        let unwanted: Vec<IpNet> = there.difference(&self.wanted).copied().collect();
        let connected = if unwanted.is_empty() {
            BTreeSet::new()
        } else {
            ends::local()
        };
        for net in unwanted {
            // This machine's own connections there would have no way any more.
            if connected.iter().any(|ip| net.contains(ip)) {
                continue;
            }
            // One that somebody else has removed is gone all the same.
            let _ = set(&handle, net, false).await;
            there.remove(&net);
        }
        self.there = Some(there);
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.failed.iter().map(|(net, reason)| Problem {
            error: format!("cannot take {net} for this node's own: {reason}"),
            traffic: "published ports are served; what this node and its tasks send to VIPs there is lost"
                .into(),
            fix: "give the agent CAP_NET_ADMIN, or set vip.pool = [] where only published ports are wanted"
                .into(),
        })
    }
}

/// What an agent before this one has left; nothing where the kernel does not say.
async fn left(handle: &Handle) -> BTreeSet<IpNet> {
    let mut left = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let mut routes = handle.route().get(question).execute();
        while let Ok(Some(route)) = routes.try_next().await {
            left.extend(ours(&route));
        }
    }
    left
}

/// Where a route of ours leads, if it is one.
fn ours(route: &RouteMessage) -> Option<IpNet> {
    let header = &route.header;
    if header.protocol != ROUTE_PROTOCOL
        || header.kind != RouteType::Local
        || u32::from(header.table) != TABLE
    {
        return None;
    }
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    })?;
    IpNet::new(ip, header.destination_prefix_length).ok()
}

async fn set(handle: &Handle, net: IpNet, there: bool) -> Result<(), Error> {
    let message = local::route(net, TABLE)?;
    if there {
        handle.route().add(message).replace().execute().await
    } else {
        handle.route().del(message).execute().await
    }
}
