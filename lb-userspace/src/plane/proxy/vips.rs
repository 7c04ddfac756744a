//! Addresses of services become this machine's own, so that what is sent to them reaches the proxy's sockets: routes of
//! type `local` at the loopback device, for the whole networks that VIPs are taken from and for each other VIP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Error, Handle, RouteMessageBuilder};

use crate::config::Config;
use crate::model::Snapshot;
use crate::plane::{Problem, ROUTE_PROTOCOL};

/// What the kernel keeps a machine's own addresses in (RT_TABLE_LOCAL).
const TABLE: u32 = 255;
/// The loopback device, in every network namespace.
const LOOPBACK: u32 = 1;

/// Those that are there.
pub struct Vips {
    /// Wanted whatever the snapshot says: where VIPs are taken from, and where the name server listens.
    always: BTreeSet<IpNet>,
    there: BTreeSet<IpNet>,
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
            there: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Makes the routes that the snapshot wants, and takes away others of ours.
    pub async fn follow(&mut self, snapshot: &Snapshot) {
        let services = snapshot.services.values();
        let vips = services.flat_map(|service| &service.vips);
        let single = vips
            .filter(|vip| !self.always.iter().any(|net| net.contains(*vip)))
            .map(|vip| IpNet::from(*vip));
        let wanted: BTreeSet<IpNet> = self.always.iter().copied().chain(single).collect();
        if wanted == self.there {
            return;
        }
        self.failed.clear();
        let handle = match rtnetlink::new_connection() {
            Ok((connection, handle, _)) => {
                tokio::spawn(connection);
                handle
            }
            Err(error) => {
                self.failed = wanted.iter().map(|net| (*net, error.to_string())).collect();
                return;
            }
        };
        for net in wanted.difference(&self.there.clone()) {
            match set(&handle, *net, true).await {
                Ok(()) => {
                    self.there.insert(*net);
                }
                Err(error) => {
                    self.failed.insert(*net, error.to_string());
                }
            }
        }
        for net in self.there.clone().difference(&wanted) {
            // One that somebody else has removed is gone all the same.
            let _ = set(&handle, *net, false).await;
            self.there.remove(net);
        }
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

async fn set(handle: &Handle, net: IpNet, there: bool) -> Result<(), Error> {
    let message = route(net)?;
    if there {
        handle.route().add(message).replace().execute().await
    } else {
        handle.route().del(message).execute().await
    }
}

fn route(net: IpNet) -> Result<RouteMessage, Error> {
    let impossible = |_| Error::InvalidNla("a prefix longer than its address".into());
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .map_err(impossible)?
        .output_interface(LOOPBACK)
        .table_id(TABLE)
        .kind(RouteType::Local)
        .protocol(ROUTE_PROTOCOL);
    let builder = if net.network().is_ipv4() {
        builder.scope(RouteScope::Host)
    } else {
        builder
    };
    Ok(builder.build())
}
